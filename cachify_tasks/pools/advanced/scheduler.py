"""Workers and their scheduler, which hands them jobs, starts and wakes them, and lets them end.

One lock guards the scheduler, and no user code runs under it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

from ..errors import PoolError, PoolFull, PoolShutDown
from .completions import Completions
from .jobs import Entry, PoolFuture
from .limits import Limits
from .priority_queue import PriorityQueue

REMEMBERED = 10_000  # workers that have ended whose counts are kept
SPIN_S = 1e-5


class ClosedReason(NamedTuple):
    """Why a scheduler accepts no jobs."""

    kind: type[PoolError]
    text: str
    cause: BaseException | None = None

    def error(self) -> PoolError:
        error = self.kind(self.text)
        error.__cause__ = self.cause
        return error


NOT_STARTED = ClosedReason(PoolError, "the pool has not been started: use `async with pool`")


class Scheduler:
    """
    Attributes:
        closed: why it accepts no jobs; None while it does.
        workers: those that count for the limits.
        threads: these, and the workers that are about to end.
        idle: workers that wait for a job; the last one is woken first. While there is one, no call is queued.
        line: callers that wait for a free slot in the queue, in order, each with the job and its priority. A caller
            without a job only wants to know that a slot is free.
        waits: workers whose call waits for another job of this pool, and that job.
        completions: set when the event loop is known, before there is a worker.
    """

    def __init__(self, limits: Limits, capacity: int | None, initializer: Callable[[], object], name: str) -> None:
        self.limits = limits
        self.capacity = capacity
        self.initializer = initializer
        self.name = name
        self.completions: Completions
        self.closed: ClosedReason | None = NOT_STARTED
        self.queue = PriorityQueue()
        self.idle: list[Worker] = []
        self.line: OrderedDict[PoolFuture[None], tuple[Entry | None, int]] = OrderedDict()
        self.workers: set[Worker] = set()
        self.threads: set[Worker] = set()
        self.records: deque[int | BaseException] = deque(maxlen=REMEMBERED)
        self.done = 0  # calls of workers that have ended
        self.failed = 0
        self.cancelled = 0
        self.started = 0
        self.waits: dict[Worker, Entry] = {}
        self.lock = threading.Lock()

    def offer(self, job: Entry, priority: int, waiter: PoolFuture[None] | None = None) -> bool:
        """Give a job to a worker or to the queue; from any thread.

        Returns:
            False: the queue is full. The job stands in line, and is in the queue when `waiter` is settled.

        Raises:
            PoolFull: the queue is full, and no waiter was given.
        """
        if not self.lock.acquire(blocking=False):
            acquire_spinning(self.lock)
        try:
            if self.closed is not None:
                raise self.closed.error()
            behind_others = waiter is not None and bool(self.line)  # no caller overtakes the line
            if not job.shared and not behind_others:
                if self.idle:
                    worker = self.idle.pop()
                    worker.job = job
                    worker.wake.release()
                    return True
                if len(self.workers) < self.limits.most and not self.queue.live and self._start_worker(job):
                    return True
            if self.capacity is not None and (behind_others or self.queue.live >= self.capacity):
                if waiter is None:
                    raise PoolFull(f"the queue is full: {self.queue.live} of {self.capacity} slots are taken")
                self.line[waiter] = job, priority
                return False
            self._enqueue(job, priority)
            return True
        finally:
            self.lock.release()

    def _enqueue(self, job: Entry, priority: int) -> None:
        job.scheduler = self
        self.queue.push(job, priority)
        if self.idle or len(self.workers) < self.limits.most:
            self._call_workers(job.size)

    def _call_workers(self, wanted: int) -> None:
        """Let that many workers look into the queue: idle ones, then new ones as far as the limits permit."""
        while wanted > 0 and self.idle:
            self.idle.pop().wake.release()
            wanted -= 1
        while wanted > 0 and len(self.workers) < self.limits.most and self._start_worker():
            wanted -= 1

    def _start_worker(self, job: Entry | None = None, *, idle: bool = False) -> bool:
        """Start a worker with a job, an idle one, or one that looks into the queue. False: there is no thread for it.

        Raises:
            PoolError: there is no thread for it, and there are no other workers.
        """
        self.started += 1
        worker = Worker(self, job, f"{self.name}-{self.started}", idle=idle)
        self.workers.add(worker)
        self.threads.add(worker)
        if idle:
            self.idle.append(worker)
        try:
            worker.thread.start()
        except RuntimeError as error:
            self._retire(worker)
            self.threads.discard(worker)
            if not self.workers:
                raise PoolError(f"no thread can be started: {error}") from error
            return False
        return True

    def next_job(self, worker: Worker) -> Entry | None:
        """A job for a worker that has ended one. None: there is none; the worker is idle now, or retired."""
        job = None
        if not self.lock.acquire(blocking=False):
            acquire_spinning(self.lock)
        try:
            if len(self.workers) <= self.limits.most:
                job = worker.job = self.queue.pop()
            if job is not None:
                if self.line:
                    self._admit()
            elif self.closed is not None or len(self.workers) > self.limits.most:
                self._retire(worker)
            else:
                self.idle.append(worker)
        finally:
            self.lock.release()
        if self.completions.ready or (self.completions.watched and job is None):
            self.completions.notify()  # not earlier: the caller's next job finds this worker idle and starts no other
        return job

    def rest(self, worker: Worker) -> bool:
        """Block an idle worker until it is woken. False: it is to end, because it was idle for long or is retired."""
        while worker in self.workers:
            spare = len(self.workers) > self.limits.least
            if worker.wake.acquire(timeout=self.limits.keep_alive if spare else -1):
                return True
            with self.lock:
                timed_out = worker in self.idle
                if timed_out and len(self.workers) > self.limits.least:
                    self._retire(worker)
            if not timed_out:
                worker.wake.acquire()  # another thread has taken it from the idle ones at this moment, and wakes it
                return True
        return False

    def _retire(self, worker: Worker) -> None:
        """The worker counts no longer."""
        if worker in self.idle:
            self.idle.remove(worker)
        if worker in self.workers:
            self.workers.discard(worker)
            self.done += worker.done
            self.failed += worker.failed

    def on_exit(self, worker: Worker, record: int | BaseException) -> None:
        """The last thing that a worker does."""
        with self.lock:
            self._retire(worker)
            self.records.append(record)
            self.threads.discard(worker)
        self.completions.notify()

    def on_crash(self, worker: Worker, error: BaseException) -> None:
        """An exception that no call has raised ends the worker. Its job fails; another worker takes its part."""
        with self.lock:
            self._retire(worker)
            job = worker.job  # not earlier: the worker may have been idle
            worker.job = None
            if self.queue.live and len(self.workers) < self.limits.most:
                self._start_worker()
        if job is not None:
            reason = PoolError(f"the worker was ended by {error!r}")
            reason.__cause__ = error
            job.fail(reason, self.completions)
        self.on_exit(worker, error)

    def on_initializer_error(self, worker: Worker, error: BaseException) -> None:
        """The initializer has failed. It would fail in every other worker, too, so no job can be run."""
        reason = ClosedReason(PoolError, f"the pool's initializer has failed: {error!r}", error)
        with self.lock:  # in one step: no job comes in between
            self._close(reason)
            jobs = self.queue.clear()
            if worker.job is not None:
                jobs.append(worker.job)
                worker.job = None
        for job in jobs:
            job.fail(reason.error(), self.completions)
        self.on_exit(worker, error)

    def withdraw(self, job: Entry, *, cancelled: bool = True) -> bool:
        """Take a job out of the queue. False: it was not in the queue any more."""
        with self.lock:
            if job.scheduler is None:
                return False
            self.queue.withdraw(job)
            self.cancelled += cancelled
            self._admit()
        job.forget()
        if self.completions.ready or self.completions.watched:
            self.completions.notify()
        return True

    def clear_queue(self) -> list[Entry]:
        """Take all jobs out of the queue: they are cancelled."""
        with self.lock:
            jobs = self.queue.clear()
            self.cancelled += len(jobs)
        return jobs

    def _admit(self) -> None:
        """Give free slots to the first in line. The event loop must be notified after the lock is released.

        A caller without a job may use its slot or not. No other caller gets the slot until `admit` is called.
        """
        without_job = 0
        while self.line and self.capacity is not None and self.queue.live + without_job < self.capacity:
            waiter, (job, priority) = self.line.popitem(last=False)
            self.completions.ready.append((waiter, None, None))
            if job is None:
                without_job += 1
            else:
                self._enqueue(job, priority)

    def admit(self) -> None:
        """Look again for free slots: a caller without a job may have left its slot unused."""
        with self.lock:
            self._admit()
        if self.completions.ready:
            self.completions.notify()

    def join_line(self, waiter: PoolFuture[None]) -> bool:
        """Stand in line without a job. False: there is a free slot now."""
        with self.lock:
            if self.closed is not None:
                raise self.closed.error()
            if self.capacity is None or (self.queue.live < self.capacity and not self.line):
                return False
            self.line[waiter] = None, 0
            return True

    def leave_line(self, waiter: PoolFuture[None]) -> None:
        with self.lock:
            self.line.pop(waiter, None)

    def open(self) -> None:
        with self.lock:
            self.closed = None
            self._start_missing()

    def resize(self, limits: Limits) -> None:
        with self.lock:
            if self.closed is not None:
                raise self.closed.error()
            self.limits = limits
            self._start_missing()
            if self.queue.live:
                self._call_workers(limits.most)
            self.queue.interrupt_maps()
            self._wake_idle()  # they look at the new limits, and rest again or end

    def _start_missing(self) -> None:
        while len(self.workers) < self.limits.least and self._start_worker(idle=True):
            pass

    def _wake_idle(self) -> None:
        for worker in self.idle:
            worker.wake.release()
        self.idle.clear()

    def close(self, reason: ClosedReason) -> None:
        """Accept no more jobs. Idle workers end; the others end when the queue is empty."""
        with self.lock:
            self._close(reason)
        if self.completions.ready:
            self.completions.notify()

    def _close(self, reason: ClosedReason) -> None:
        if self.closed is None or self.closed.kind is not PoolShutDown:
            self.closed = reason
        self.completions.ready.extend((waiter, None, reason.error()) for waiter in self.line)
        self.line.clear()
        self._wake_idle()

    def running(self) -> list[Entry]:
        """The jobs that workers have now."""
        with self.lock:
            return [job for worker in self.threads if (job := worker.job) is not None]

    def counts(self) -> tuple[int, int]:
        """How many calls have ended, and how many of them have raised."""
        with self.lock:
            done = self.done + sum(worker.done for worker in self.workers)
            return done, self.failed + sum(worker.failed for worker in self.workers)

    def is_quiet(self) -> bool:
        """Does nothing wait and nothing run?"""
        return not (self.queue.live or self.line or self.completions.ready or self.running())


class Worker:
    """A thread that runs one job after another.

    Attributes:
        job: what it runs, or was given by the scheduler.
        wake: a lock that the worker waits for while it rests. Whoever takes the worker from the idle ones releases it
            once.
        done, failed: calls that have ended, and those of them that raised; only the worker writes them.
    """

    __slots__ = ("completions", "done", "failed", "job", "scheduler", "thread", "wake")

    def __init__(self, scheduler: Scheduler, job: Entry | None, name: str, *, idle: bool) -> None:
        self.scheduler = scheduler
        self.completions = scheduler.completions
        self.job = job
        self.done = 0
        self.failed = 0
        self.wake = threading.Lock()
        if idle:
            self.wake.acquire()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def count(self, calls: int, *, failed: bool) -> None:
        """Count calls that have ended: before the outcome is delivered, because its receiver may look at the counts."""
        self.done += calls
        self.failed += failed
        self.job = None

    def _run(self) -> None:
        scheduler = self.scheduler
        try:
            scheduler.initializer()
        except BaseException as error:  # noqa: BLE001  # every user of the pool gets it
            scheduler.on_initializer_error(self, error)
            return
        try:
            while scheduler.rest(self):
                job = self.job or scheduler.next_job(self)
                while job is not None:
                    job.run(self)
                    self.job = job = None  # nothing is kept alive while the worker rests
                    job = scheduler.next_job(self)
        except BaseException as error:  # noqa: BLE001  # thrown into the thread from outside
            scheduler.on_crash(self, error)
        else:
            scheduler.on_exit(self, self.done)


def acquire_spinning(lock: threading.Lock) -> None:
    """Take a lock by trying again and again.

    A thread that is woken in a blocking `acquire` owns the lock but still waits for the interpreter, and all others
    wait for that thread: a lock convoy, with two context switches for each job.
    """
    while not lock.acquire(blocking=False):
        time.sleep(SPIN_S)
