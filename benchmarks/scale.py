"""The same work in a volume of a thousand files and in one of a million, and how long such volumes take to be mounted.

Both volumes are made once, by the engine without the kernel, and then mounted. A million files take minutes to make, so
these works are done only when they are named.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from stat import S_IFDIR, S_IFREG
from typing import Final

from benchmarks.checkpoints import volume_beside
from benchmarks.places import Helios
from benchmarks.works import Sample, Site, Work, nowhere

PER_DIRECTORY: Final = 100
DIRECTORIES: Final = 10
"""As many as a thousand files have; works on files that are there already use so many of a million's."""
FILES: Final = PER_DIRECTORY * DIRECTORIES
CONTENT: Final = b"some text\n" * 20
SNAPSHOTS: Final = 100
LARGE: Final = 1_000_000
STEPS_EVERY: Final = 1000


def make(store: Path, files: int) -> None:
    """A store with so many files in it. What the daemon does in idle time is done in between."""
    from heliosfs.store.store import Store
    from heliosfs.view.inode import Caller
    from heliosfs.volume.volume import Volume

    caller = Caller(os.getuid(), os.getgid(), os.getpid(), b"bench")
    volume = Volume.open(Store.open(store))
    try:
        view = volume.main.view
        directory = view.root
        for number in range(files):
            if number % PER_DIRECTORY == 0:
                directory = view.make(view.root, b"%d" % (number // PER_DIRECTORY), S_IFDIR | 0o755, caller)
            file = view.make(directory, b"%d" % number, S_IFREG | 0o644, caller)
            view.write(file, 0, CONTENT)
            view.closed(file)
            view.forget(file)
            if number % STEPS_EVERY == 0:
                while volume.dirty():
                    volume.step()
                if volume.flush_due():
                    volume.flush()
    finally:
        volume.close()


def volume_of(site: Site, files: int) -> Helios:
    """The volume that has so many; made once for all works that need it."""

    def fill(volume: Helios) -> None:
        volume.unmount()
        make(volume.store, files)
        volume.reopen()

    return volume_beside(site, f"scale{files}", fill)


class _Scale:
    """The works in one of the volumes."""

    def __init__(self, files: int) -> None:
        self._files = files

    def volume(self, site: Site) -> Helios:
        return volume_of(site, self._files)

    def settle(self, site: Site) -> None:
        self.volume(site).settle()

    # Files that are made

    def _new(self, site: Site) -> Path:
        return self.volume(site).directory / f"new{site.seed}"

    def need_new(self, site: Site) -> None:
        if not self._new(site).exists():
            self.create(site)
        self.settle(site)

    def create(self, site: Site) -> Sample:
        directory = self._new(site)
        start = time.perf_counter()
        os.mkdir(directory)
        for number in range(FILES):
            descriptor = os.open(f"{directory}/{number}", os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, CONTENT)
            os.close(descriptor)
        return Sample(time.perf_counter() - start, FILES)

    def rename(self, site: Site) -> Sample:
        directory = self._new(site)
        return each_of(lambda name: os.rename(f"{directory}/{name}", f"{directory}/{name}.old"), os.listdir(directory))

    def unlink(self, site: Site) -> Sample:
        directory = self._new(site)
        sample = each_of(lambda name: os.unlink(f"{directory}/{name}"), os.listdir(directory))
        os.rmdir(directory)
        return sample

    # Files that were there before

    def _directories(self, site: Site) -> list[str]:
        """Others in each round."""
        top = self.volume(site).directory
        chosen = random.Random(site.seed).sample(range(self._files // PER_DIRECTORY), DIRECTORIES)
        return [f"{top}/{number}" for number in chosen]

    def _paths(self, site: Site) -> list[str]:
        paths = [
            f"{directory}/{int(os.path.basename(directory)) * PER_DIRECTORY + number}"
            for directory in self._directories(site)
            for number in range(PER_DIRECTORY)
        ]
        random.Random(site.seed).shuffle(paths)
        return paths

    def read(self, site: Site) -> Sample:
        return each_of(stat_and_read, self._paths(site))

    def reopen(self, site: Site) -> None:
        """Neither the daemon nor the kernel has seen a file then."""
        self.volume(site).reopen()

    def list_all(self, site: Site) -> Sample:
        sample = each_of(_list, self._directories(site))
        return Sample(sample.seconds, FILES)

    def append(self, site: Site) -> Sample:
        return each_of(_append, self._paths(site))

    def need_appended(self, site: Site) -> None:
        """What these files need is in memory then, and nothing is left to do for them."""
        self.append(site)
        self.settle(site)

    # The volume as a whole

    def snapshot(self, site: Site) -> Sample:
        """Each of a changed file."""
        volume = self.volume(site)
        each = []
        for number, path in enumerate(self._paths(site)[:SNAPSHOTS]):
            _append(path)
            start = time.perf_counter()
            os.mkdir(volume.directory / ".snapshots" / f"s{site.seed}-{number}")
            each.append(time.perf_counter() - start)
        return Sample(sum(each), len(each), tuple(each))

    def unmount(self, site: Site) -> None:
        self.volume(site).unmount()

    def kill(self, site: Site) -> None:
        """Just after some work, which the next daemon finds in the journal."""
        self.need_new(site)
        self.rename(site)
        self.unlink(site)
        self.volume(site).kill()

    def mount(self, site: Site) -> Sample:
        volume = self.volume(site)
        return each_of(lambda _: volume.mount(), [""])


def each_of(operation: Callable[[str], object], names: list[str]) -> Sample:
    start = time.perf_counter()
    for name in names:
        operation(name)
    return Sample(time.perf_counter() - start, len(names))


def stat_and_read(path: str) -> None:
    os.stat(path)
    descriptor = os.open(path, os.O_RDONLY)
    os.read(descriptor, len(CONTENT))
    os.close(descriptor)


def _append(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"more\n")
    os.close(descriptor)


def _list(directory: str) -> None:
    for entry in os.scandir(directory):
        entry.stat()


KINDS: Final = (
    ("create", _Scale.create, _Scale.settle),
    ("rename", _Scale.rename, _Scale.need_new),
    ("unlink", _Scale.unlink, _Scale.need_new),
    ("read, first", _Scale.read, _Scale.reopen),
    ("read", _Scale.read, _Scale.read),
    ("list", _Scale.list_all, _Scale.list_all),
    ("append", _Scale.append, _Scale.need_appended),
    ("snapshot", _Scale.snapshot, _Scale.need_appended),
    ("mount", _Scale.mount, _Scale.unmount),
    ("mount, killed", _Scale.mount, _Scale.kill),
)


def _works() -> tuple[Work, ...]:
    """Each on the large volume right after the small one."""
    small, large = (_Scale(files) for files in (FILES, LARGE))
    found = []
    for kind, run, prepare in KINDS:
        first, second = (
            Work(
                f"{size}: {kind}",
                partial(run, scale),
                partial(prepare, scale),
                checkpoint=True,
                named=True,
                where=nowhere if run is _Scale.mount else scale.volume,
            )
            for size, scale in (("a thousand", small), ("a million", large))
        )
        found += [first, second._replace(against=first.name)]
    return tuple(found)


SCALE: Final = _works()
