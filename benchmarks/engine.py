"""The engine alone, without the kernel: a volume in this process, and what a snapshot and a restore take in it."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.places import Helios
from benchmarks.works import Sample, Site

if TYPE_CHECKING:
    from heliosfs.view.inode import Caller, Inode
    from heliosfs.volume.volume import Volume

FILES: Final = 1000
CHANGED: Final = 10
TIMES: Final = 200


class _Engine(NamedTuple):
    volume: Volume
    caller: Caller
    inodes: list[Inode]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Engine]:
    from heliosfs.store.store import Store
    from heliosfs.view.inode import Caller
    from heliosfs.volume.volume import Volume

    volume = Volume.open(Store.open(path))
    caller = Caller(os.getuid(), os.getgid(), os.getpid(), b"bench")
    view = volume.main.view
    inodes = [view.make(view.root, b"%d" % number, 0o100644, caller) for number in range(FILES)]
    gc.collect()
    gc.disable()  # as seldom as in the daemon
    try:
        yield _Engine(volume, caller, inodes)
    finally:
        gc.enable()
        volume.close()


def _times(site: Site, word: str) -> list[float]:
    each = []
    with _opened(site.place.base / f"engine-{word}{site.seed}") as (volume, caller, inodes):
        volume.snapshot(volume.main, b"kept", caller)
        for number in range(TIMES):
            for inode in inodes[number % 50 : number % 50 + CHANGED]:
                inode.view.write(inode, 0, b"%d" % number)
            start = time.perf_counter()
            if word == "snapshot":
                volume.snapshot(volume.main, b"%d" % number, caller)
            else:
                volume.restore(volume.main, "kept", caller)
            each.append(time.perf_counter() - start)
            while volume.dirty():
                volume.step()
    return each


def _sample(site: Site, word: str) -> Sample:
    if not isinstance(site.place, Helios):
        raise NotImplementedError
    each = _times(site, word)
    return Sample(sum(each), len(each), tuple(each))


def snapshot(site: Site) -> Sample:
    """Freeze, record, name: with ten files changed since the one before."""
    return _sample(site, "snapshot")


def restore(site: Site) -> Sample:
    """Back to a state from which ten files differ."""
    return _sample(site, "restore")
