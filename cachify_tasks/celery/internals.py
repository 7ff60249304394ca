"""What the adapter uses of Celery's worker, as types.

Celery's own stubs leave most of it out. Names with a leading underscore are Celery's private business: each has a test
in tests/celery/test_internals.py that fails, and names it, when a release of Celery lacks it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, MutableMapping, Sized
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from celery import Celery
from kombu import Message

if TYPE_CHECKING:
    from .gate import Gate

Dispatch: TypeAlias = Callable[[], object]


class Hub(Protocol):
    """kombu's event loop."""

    on_tick: set[Callable[[], None]]
    readers: Mapping[int, tuple[Callable[..., object] | Generator[object, None, None], tuple[object, ...]]]

    def call_soon(self, callback: Callable[..., object], *args: object) -> object: ...
    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer: ...
    def call_repeatedly(self, delay: float, callback: Callable[..., object], *args: object) -> Timer: ...
    def add_reader(self, fd: int, callback: Callable[..., object], *args: object) -> object: ...
    def remove_reader(self, fd: int) -> object: ...


class Timer(Protocol):
    """An entry of the hub's timer."""

    def cancel(self) -> object: ...


class Semaphore(Protocol):
    """kombu's LaxBoundedSemaphore: counts the free processes of a prefork worker."""

    value: int
    _waiting: list[tuple[Callable[..., object], tuple[object, ...], dict[str, object]]]

    def acquire(self, callback: Callable[..., object], *args: object) -> bool: ...


class Pool(Protocol):
    """A worker's pool of processes, threads or greenlets."""

    num_processes: int
    is_green: bool  # of greenlets
    cachify_gate: Gate  # ours
    _pool: BilliardPool

    def apply_async(self, target: Callable[..., object], args: object, kwargs: object, **options: object) -> object: ...


class BilliardPool(Protocol):
    """Celery's AsynPool."""

    _cache: Mapping[int, Job]  # jobs whose end has not been reported

    def maintain_pool(self) -> None:
        """Put new processes into the places of those that have ended."""


class PoolProcess(Protocol):
    outqR_fd: int  # where the worker reads what it reports

    def _is_alive(self) -> bool: ...


class Job(Protocol):
    """billiard's ApplyResult."""

    _job: int
    _accepted: bool
    _write_to: PoolProcess | None  # the process that it is, or was, written to


class QueueConsumer(Protocol):
    """kombu's consumer of the worker's queues."""

    queues: Iterable[Queue]
    accept: Iterable[str] | None
    _active_tags: Mapping[str, str]  # name of a queue -> consumer tag

    def consuming_from(self, queue: str) -> bool: ...


class Queue(Protocol):
    name: str
    exchange: Exchange | None
    routing_key: str


class Exchange(Protocol):
    name: str


class Blueprint(Protocol):
    state: int
    order: Iterable[object]


class Bucket(Protocol):
    """A task's rate limit: kombu's TokenBucket. contents: requests that wait for their tokens."""

    contents: Sized

    def expected_time(self, tokens: int) -> float: ...


class EventDispatcher(Protocol):
    """Sends the worker's events."""

    def send(self, kind: str, /, **fields: object) -> object: ...


class PrefetchCount(Protocol):
    """kombu's QoS: how many messages are delivered before one must be acknowledged."""

    def increment_eventually(self) -> object: ...
    def decrement_eventually(self) -> object: ...


class Consumer(Protocol):
    """The part of a worker that receives messages; made anew after the broker was lost."""

    app: Celery
    hub: Hub | None
    pool: Pool
    hostname: str
    connection: object | None
    qos: PrefetchCount
    connection_errors: tuple[type[BaseException], ...]
    blueprint: Blueprint
    strategies: MutableMapping[str, Callable[..., object]]
    task_consumer: QueueConsumer | None
    event_dispatcher: EventDispatcher | None
    disable_rate_limits: bool
    task_buckets: Mapping[str, Bucket | None]

    on_task_request: Callable[[Request], object]
    on_unknown_task: Callable[..., object]
    on_task_message: Iterable[Callable[[Request], object]]

    def update_strategies(self) -> None: ...
    def _limit_task(self, request: Request, bucket: Bucket, tokens: int) -> object: ...


class Worker(Protocol):
    """celery.worker.WorkController."""

    app: Celery
    hub: Hub | None
    pool: Pool
    pool_cls: type[Any]
    consumer: Consumer | None
    semaphore: Semaphore | None
    time_limit: float | None  # of all tasks, in seconds
    soft_time_limit: float | None

    def process_task(self, request: Request) -> object: ...
    def _process_task(self, request: Request) -> object: ...
    def _process_task_sem(self, request: Request) -> object: ...


class Task(Protocol):
    """A registered task."""

    name: str
    acks_late: bool
    Request: str  # or the class

    @property
    def app(self) -> Celery: ...
    @property
    def run(self) -> Callable[..., object]: ...
    @property
    def time_limit(self) -> float | None: ...
    @property
    def soft_time_limit(self) -> float | None: ...

    def start_strategy(self, app: Celery, consumer: Consumer) -> Callable[..., object]: ...


class Request(Protocol):
    """celery.worker.request.Request: one message on its way through the worker."""

    id: str
    name: str
    task: Any  # celery.app.task.Task, of which the outcomes use much
    app: Celery
    args: list[object]
    kwargs: dict[str, object] | None
    message: Message
    hostname: str
    delivery_info: dict[str, object]
    request_dict: dict[str, object]
    replaced_task_nesting: int
    store_errors: bool
    acknowledged: bool
    worker_pid: int | None
    _apply_result: Callable[[], Job | None] | None
    _context: Any  # celery.app.task.Context
    _on_ack: Callable[..., object]
    _on_reject: Callable[..., object]

    def acknowledge(self) -> None: ...
    def revoked(self) -> bool: ...
    def send_event(self, kind: str, /, **fields: object) -> object: ...
