"""The order in which works run: in every round each work on every place in turn, so that a machine that is slower for
a while is slower for all of them. The places change their order from round to round.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from benchmarks.places import Place
from benchmarks.tree import Tree
from benchmarks.works import Sample, Site, Work

DROP_CACHES: Final = "/proc/sys/vm/drop_caches"


class Result(NamedTuple):
    """One run of one work on one place."""

    work: str
    place: str
    round: int
    sample: Sample
    requests: dict[str, int] | None
    """What the kernel asked meanwhile, by kind."""
    processor: float
    """Seconds of processor time of the place's process."""
    load: float
    """The machine's load average at that time."""


Notice = Callable[[str], None]


def drop_caches() -> bool:
    """Forget what the kernel has cached, so that a cold work is cold; for root only."""
    os.sync()
    try:
        with open(DROP_CACHES, "w", encoding="ascii") as file:
            file.write("3")
    except OSError:
        return False
    time.sleep(0.2)
    return True


def run_round(
    number: int, places: Sequence[Place], works: Sequence[Work], tree: Tree, notice: Notice, results: list[Result]
) -> None:
    """All works on all places once. `notice` is told before each, and of each that fails."""
    sites = [Site(place, tree, number) for place in places]
    try:
        for work in works:
            turn = number % len(sites)
            for site in sites[turn:] + sites[:turn]:
                notice(f"round {number}: {work.name} on {site.place.name}")
                try:
                    result = run_one(work, site, number)
                except (OSError, RuntimeError) as error:
                    notice(f"FAILED: {work.name} on {site.place.name}: {error}")
                else:
                    results.extend([result] if result is not None else [])
    finally:
        for site in sites:
            site.remove()


def run_one(work: Work, site: Site, number: int) -> Result | None:
    """One work on one place; None where that cannot be done."""
    place = site.place
    if not (place.checkpoints if work.checkpoint else place.ordinary):
        return None
    with contextlib.suppress(NotImplementedError):
        work.prepare(site)
        mount = work.where(site)
        if work.cold and mount is not None:
            mount.reopen()
            if not drop_caches():
                return None
        before, processor = _counts(mount)
        sample = work.run(site)
        after, processor_after = _counts(mount)
        requests, load = _difference(before, after), os.getloadavg()[0]
        return Result(work.name, place.name, number, sample, requests, processor_after - processor, load)
    return None


def _counts(place: Place | None) -> tuple[dict[str, int] | None, float]:
    """Requests and seconds of processor time so far."""
    return (None, 0.0) if place is None else (place.requests(), place.processor_seconds())


def _difference(before: dict[str, int] | None, after: dict[str, int] | None) -> dict[str, int] | None:
    if before is None or after is None:
        return None
    # Asking for the numbers is an open, a write, reads and a release of its own.
    own = {"open": 1, "write": 1, "read": 1, "release": 1}
    counts = {kind: count - before.get(kind, 0) - own.get(kind, 0) for kind, count in after.items()}
    return {kind: count for kind, count in counts.items() if count > 0}
