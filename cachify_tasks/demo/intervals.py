"""What ran at the same time, out of nothing but starts and ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Interval = tuple[int, int]


def peak(intervals: Iterable[Interval]) -> int:
    """The most that ran at once. One that starts at the moment another ends does not overlap it."""
    running = highest = 0
    # At one moment ends come before starts; what took no time has run all the same.
    for _, change in sorted(event for start, end in intervals for event in ((start, 1), (max(end, start + 1), -1))):
        running += change
        highest = max(highest, running)
    return highest


def lanes(intervals: Sequence[Interval]) -> list[int]:
    """For each interval the lowest lane that is free when it starts: as many lanes as the peak."""
    free_from: list[int] = []
    chosen = [0] * len(intervals)
    for place in sorted(range(len(intervals)), key=intervals.__getitem__):
        start, end = intervals[place]
        lane = next((lane for lane, free in enumerate(free_from) if free <= start), len(free_from))
        free_from[lane : lane + 1] = [max(end, start + 1)]
        chosen[place] = lane
    return chosen
