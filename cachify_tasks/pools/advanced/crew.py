"""The workers: who gets a job, who is woken, who goes. One lock decides, and no user's code runs under it."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from ..errors import PoolError, PoolFull, PoolShutDown
from .jobs import Entry, Place
from .lanes import Lanes
from .outbox import Outbox
from .terms import Limits, Refusal, patiently
from .worker import Worker

REMEMBERED = 10_000  # workers that have ended whose counts are kept


class Crew:
    """
    Attributes:
        refusal: None while it is open.
        workers: those that count for the limits; threads: also those that are on their way out.
        idle: those that wait for a job, the last to be woken first. Where there is one, the queue is empty.
        line: jobs that wait for a place in the queue, or None for who wants to be told of one; in order.
        watched: somebody on the loop waits for the workers to have nothing to do.
    """

    def __init__(self, limits: Limits, places: int | None, initializer: Callable[[], object], name: str) -> None:
        self.limits, self.places, self.initializer, self.name = limits, places, initializer, name
        self.outbox: Outbox  # set when the loop is known, before there is a worker
        self.refusal: Refusal | None = Refusal(PoolError, "the pool has not been started: use `async with pool`")
        self.lanes = Lanes()
        self.idle: list[Worker] = []
        self.line: OrderedDict[Place, tuple[Entry | None, int]] = OrderedDict()
        self.workers: set[Worker] = set()
        self.threads: set[Worker] = set()
        self.leaving: list[threading.Thread] = []
        self.records: deque[int | BaseException] = deque(maxlen=REMEMBERED)
        self.done = self.failed = 0  # of workers that have left
        self.cancelled = self.hired = 0
        self.watched = False
        self.lock = threading.Lock()

    def offer(self, job: Entry, priority: int, place: Place | None = None) -> bool:
        """Give a job to a worker, or to the queue; from any thread.

        Returns:
            False: the queue is full; the job waits in line, and is in the queue when `place` is settled.

        Raises:
            PoolFull: the queue is full, and no place was given.
        """
        if not self.lock.acquire(blocking=False):
            patiently(self.lock)
        try:
            if self.refusal is not None:
                raise self.refusal.error()
            if not (job.shared or (place is not None and self.line)):  # nobody goes past the line
                if self.idle:
                    worker = self.idle.pop()
                    worker.job = job
                    worker.wake.release()
                    return True
                if len(self.workers) < self.limits.most and not self.lanes.live and self._hire(job):
                    return True
            if self.places is not None and (self.lanes.live >= self.places or (place is not None and self.line)):
                if place is None:
                    raise PoolFull(f"the pool is full: {self.lanes.live} of {self.places} places are taken")
                self.line[place] = job, priority
                return False
            self._enqueue(job, priority)
            return True
        finally:
            self.lock.release()

    def _enqueue(self, job: Entry, priority: int) -> None:
        job.crew = self
        self.lanes.push(job, priority)
        if self.idle or len(self.workers) < self.limits.most:
            self._summon(job.size)

    def _summon(self, wanted: int) -> None:
        """Let so many workers look into the queue, as far as there are idle ones or may be more."""
        while wanted > 0 and self.idle:
            self.idle.pop().wake.release()
            wanted -= 1
        while wanted > 0 and len(self.workers) < self.limits.most and self._hire(None):
            wanted -= 1

    def _hire(self, job: Entry | None, *, idle: bool = False) -> bool:
        """Start a worker. False: there is no thread to be had, and the others have to do."""
        self.hired += 1
        worker = Worker(self, job, f"{self.name}-{self.hired}", idle=idle)
        self.workers.add(worker)
        self.threads.add(worker)
        if idle:
            self.idle.append(worker)
        try:
            worker.thread.start()
        except RuntimeError as error:
            self._dismiss(worker)
            self.threads.discard(worker)
            if not self.workers:
                raise PoolError(f"no thread can be started: {error}") from error
            return False
        return True

    def next(self, worker: Worker, *, idle: bool = False) -> Entry | None:
        """What the worker is to do; it waits here. None: it is to end. idle: it is among the idle ones already."""
        while True:
            if not idle:
                granted: Iterable[Place] = ()
                job = None
                if not self.lock.acquire(blocking=False):
                    patiently(self.lock)
                try:
                    if len(self.workers) <= self.limits.most:
                        job = worker.job = self.lanes.pop()
                    if job is not None:
                        granted = self._advance() if self.line else ()
                    elif self.refusal is not None or len(self.workers) > self.limits.most:
                        self._dismiss(worker)
                        return None
                    else:
                        self.idle.append(worker)
                finally:
                    self.lock.release()
                if self.outbox.ready or (self.watched and job is None):
                    self.outbox.ring()  # not sooner: who answers finds this worker idle, and takes no other one
                if job is not None:
                    self.grant(granted)
                    return job
            if not self._rest(worker):
                return None
            if worker.job is not None:
                return worker.job
            idle = False

    def _rest(self, worker: Worker) -> bool:
        """Sleep until somebody wakes the worker. False: nobody has for long, and it is not needed."""
        while True:
            spare = len(self.workers) > self.limits.least
            if worker.wake.acquire(timeout=self.limits.keep if spare else -1):
                return True
            with self.lock:
                if worker in self.idle:
                    if len(self.workers) <= self.limits.least:
                        continue
                    self._dismiss(worker)
                    return False
            worker.wake.acquire()  # it was taken out of the idle ones at this very moment: it is being woken
            return True

    def _dismiss(self, worker: Worker) -> None:
        if worker in self.idle:
            self.idle.remove(worker)
        if worker in self.workers:
            self.workers.discard(worker)
            self.done += worker.done
            self.failed += worker.failed

    def gone(self, worker: Worker, record: int | BaseException) -> None:
        """The last that a worker does."""
        with self.lock:
            self._dismiss(worker)
            self.leaving = [thread for thread in self.leaving if thread.is_alive()]
            self.leaving.append(worker.thread)
            self.records.append(record)
            self.threads.discard(worker)
        self.outbox.ring()

    def lose(self, worker: Worker, error: BaseException) -> None:
        """A worker ends by an exception that no call has raised. What it had fails; another one takes its part."""
        job, worker.job = worker.job, None
        with self.lock:
            self._dismiss(worker)
            if self.lanes.live and len(self.workers) < self.limits.most:
                self._hire(None)
        if job is not None:
            why = PoolError(f"the worker was ended by {error!r}")
            why.__cause__ = error
            job.fail(why, self.outbox)
        self.gone(worker, error)

    def break_down(self, worker: Worker, error: BaseException) -> None:
        """The initializer has failed: so would every other one, and nothing can be run."""
        why = Refusal(PoolError, f"the pool's initializer has failed: {error!r}", error)
        job, worker.job = worker.job, None
        with self.lock:
            jobs = self.lanes.clear()
        self.close(why)
        for broken in [*jobs, *([job] if job is not None else [])]:
            broken.fail(why.error(), self.outbox)
        self.gone(worker, error)

    def withdraw(self, job: Entry, *, cancelled: bool = True) -> bool:
        """Take a job out of the queue. False: it was not in it any more."""
        granted: Iterable[Place] = ()
        with self.lock:
            if job.crew is None:
                return False
            self.lanes.withdraw(job)
            self.cancelled += cancelled
            granted = self._advance() if self.line else ()
        job.forget()
        self.grant(granted)
        if self.watched:
            self.outbox.ring()
        return True

    def _advance(self) -> list[Place]:
        """Places have become free: the next in line get them. Who is only told of one may take it, or not."""
        assert self.places is not None
        granted: list[Place] = []
        told = 0
        while self.line and self.lanes.live + told < self.places:
            place, (job, priority) = self.line.popitem(last=False)
            granted.append(place)
            if job is None:
                told += 1
            else:
                self._enqueue(job, priority)
        return granted

    def advance(self) -> None:
        """Somebody was told of a place and may have left it."""
        with self.lock:
            granted = self._advance() if self.line else ()
        self.grant(granted)

    def grant(self, places: Iterable[Place]) -> None:
        for place in places:
            self.outbox.put(place, None, None)

    def line_up(self, place: Place) -> bool:
        """Wait in line to be told of a place. False: there is one now."""
        with self.lock:
            if self.refusal is not None:
                raise self.refusal.error()
            if self.places is None or (self.lanes.live < self.places and not self.line):
                return False
            self.line[place] = None, 0
            return True

    def leave_line(self, place: Place) -> None:
        with self.lock:
            self.line.pop(place, None)

    def open(self) -> None:
        with self.lock:
            self.refusal = None
            self._fill()

    def resize(self, limits: Limits) -> None:
        with self.lock:
            if self.refusal is not None:
                raise self.refusal.error()
            self.limits = limits
            self._fill()
            if self.lanes.live:
                self._summon(limits.most)
            self.lanes.call_back()
            for worker in self.idle:  # they look at the new limits, and rest again or go
                worker.wake.release()
            self.idle.clear()

    def _fill(self) -> None:
        while len(self.workers) < self.limits.least and self._hire(None, idle=True):
            pass

    def close(self, why: Refusal) -> None:
        """Take nothing more. Idle workers end; the others when the queue is empty."""
        with self.lock:
            if self.refusal is None or self.refusal.kind is not PoolShutDown:
                self.refusal = why
            line = list(self.line)
            self.line.clear()
            for worker in self.idle:
                worker.wake.release()
            self.idle.clear()
        for place in line:
            self.outbox.put(place, None, why.error())

    def running(self) -> list[Entry]:
        """What the workers have just now."""
        with self.lock:
            return [job for worker in self.threads if (job := worker.job) is not None]

    def completed(self) -> tuple[int, int]:
        """Calls that have ended, and those of them that raised."""
        with self.lock:
            done = self.done + sum(worker.done for worker in self.workers)
            return done, self.failed + sum(worker.failed for worker in self.workers)

    def calm(self) -> bool:
        """Is there nothing that waits or runs?"""
        return not (self.lanes.live or self.line or self.outbox.ready or self.running())
