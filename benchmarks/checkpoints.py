"""Works that only some places can do: keeping a state of a tree, forking it, going back to one.

Each does it in its own way: HeliosFS by mkdir and rmdir in the reserved directories, btrfs by the ioctl for
snapshots (so that no process has to be started), git by its commands.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import engine
from benchmarks.places import Btrfs, Git, Helios, run
from benchmarks.works import Sample, Site, Work, client, first, nowhere, settle

MANY: Final = 200
"""Operations of a sample where one takes microseconds."""
FEW: Final = 5
"""And where one takes a good part of a second."""
TOUCHED: Final = 10_000
TOUCHED_TIMES: Final = 5
LARGE: Final = 100_000
PER_DIRECTORY: Final = 1000
BUSY_BRANCHES: Final = 10
BUSY_FILES: Final = 100

_IOC_SNAP_CREATE_V2: Final = 0x50009417
_IOC_SNAP_DESTROY: Final = 0x5000940F
_SNAP_V2: Final = struct.Struct("=qQQ32x4040s")
_SNAP: Final = struct.Struct("=q4088s")
"""Given as bytearrays: the ioctl of Python takes no longer bytes than 1024."""


def timed(operation: Callable[[int], object], count: int) -> Sample:
    """Each of `count` operations timed by itself."""
    clock = time.perf_counter
    each = []
    for number in range(count):
        start = clock()
        operation(number)
        each.append(clock() - start)
    return Sample(sum(each), count, tuple(each))


# What a snapshot, a fork and a drop are in each place


def _subvolume(site: Site) -> Path:
    """btrfs: the tree lies in a subvolume of its own."""
    path = site.directory / "sub"
    if not path.exists():
        run("btrfs", "subvolume", "create", path)
        site.shell(f"cd sub && tar xf {site.tree.archive}")
    return path


def prepare(site: Site) -> None:
    """A tree with one file to edit, ready to be kept."""
    place = site.place
    if isinstance(place, Btrfs):
        _subvolume(site)
    elif isinstance(place, Git):
        site.need_commit()
    else:
        site.need_tree()


def _snapshot(site: Site, name: str) -> None:
    place = site.place
    if isinstance(place, Helios):
        os.mkdir(place.directory / ".snapshots" / name)
    elif isinstance(place, Btrfs):
        _btrfs_snapshot(_subvolume(site), site.directory, name)
    else:
        site.shell("cd py && git add -A && git commit -qm kept --allow-empty")


def _btrfs_snapshot(source: Path, parent: Path, name: str) -> None:
    descriptor, target = os.open(source, os.O_RDONLY), os.open(parent, os.O_RDONLY)
    try:
        fcntl.ioctl(target, _IOC_SNAP_CREATE_V2, bytearray(_SNAP_V2.pack(descriptor, 0, 0, name.encode())))
    finally:
        os.close(descriptor)
        os.close(target)


def _drop(site: Site, container: str, name: str) -> None:
    place = site.place
    if isinstance(place, Helios):
        os.rmdir(place.directory / container / name)
    elif isinstance(place, Btrfs):
        target = os.open(site.directory, os.O_RDONLY)
        try:
            fcntl.ioctl(target, _IOC_SNAP_DESTROY, bytearray(_SNAP.pack(0, name.encode())))
        finally:
            os.close(target)
    elif container == ".branches":
        run("git", "worktree", "remove", "--force", f"../{name}", directory=site.directory / "py")


def _fork(site: Site, name: str) -> None:
    place = site.place
    if isinstance(place, Helios):
        os.mkdir(place.directory / ".branches" / name)
    elif isinstance(place, Btrfs):
        _btrfs_snapshot(_subvolume(site), site.directory, name)
    else:
        run("git", "worktree", "add", "-q", "--detach", f"../{name}", directory=site.directory / "py")


def _count(site: Site) -> int:
    return FEW if isinstance(site.place, Git) else MANY


# Works


def make_directory(site: Site) -> Sample:
    """A mkdir that keeps nothing: the kernel makes the same requests for it as for a snapshot, so this is how much of
    that is the way to a daemon and back."""
    return timed(lambda number: (site.directory / f"made{number}").mkdir(), MANY)


def snapshot(site: Site) -> Sample:
    return timed(lambda number: _snapshot(site, f"s{site.seed}-{number}"), _count(site))


def _prepare_drop_snapshot(site: Site) -> None:
    if isinstance(site.place, Git):
        raise NotImplementedError
    prepare(site)
    for number in range(_count(site)):
        _snapshot(site, f"d{site.seed}-{number}")
    settle(site)


def drop_snapshot(site: Site) -> Sample:
    return timed(lambda number: _drop(site, ".snapshots", f"d{site.seed}-{number}"), _count(site))


def fork(site: Site) -> Sample:
    return timed(lambda number: _fork(site, f"b{site.seed}-{number}"), _count(site))


def _prepare_drop_fork(site: Site) -> None:
    prepare(site)
    for number in range(_count(site)):
        _fork(site, f"f{site.seed}-{number}")
    settle(site)


def drop_fork(site: Site) -> Sample:
    return timed(lambda number: _drop(site, ".branches", f"f{site.seed}-{number}"), _count(site))


def _edit(site: Site, number: int) -> None:
    """Three files, as an agent edits them."""
    top = _subvolume(site) if isinstance(site.place, Btrfs) else site.directory
    for name in ("abc.py", "ast.py", "bdb.py"):
        path = top / "py" / name
        path.write_text(path.read_text()[:20000] + f"\n# {number}\n")


def agent_loop(site: Site) -> Sample:
    """Edit three files, keep the state: only the keeping is timed."""
    each = []
    for number in range(_count(site)):
        _edit(site, number)
        start = time.perf_counter()
        _snapshot(site, f"a{site.seed}-{number}")
        each.append(time.perf_counter() - start)
    return Sample(sum(each), len(each), tuple(each))


def restore(site: Site) -> Sample:
    """Ten files were changed since; HeliosFS alone goes back in place."""
    place = site.place
    if not isinstance(place, Helios):
        raise NotImplementedError
    os.mkdir(place.directory / ".snapshots" / f"r{site.seed}")
    names = sorted((site.directory / "py").glob("*.py"))[:10]
    each = []
    for number in range(20):
        for path in names:
            path.write_text(f"{number}\n")
        verb = os.open(place.directory / ".heliosfs" / "restore", os.O_WRONLY)
        start = time.perf_counter()
        os.write(verb, f"r{site.seed}".encode())
        each.append(time.perf_counter() - start)
        os.close(verb)
    return Sample(sum(each), len(each), tuple(each))


def volume_beside(site: Site, name: str, make: Callable[[Helios], None]) -> Helios:
    """A volume of its own, which is made for the first work that needs it and stays for all others."""
    if not isinstance(site.place, Helios):
        raise NotImplementedError
    base = site.place.base / name
    for place in site.place.beside:
        if isinstance(place, Helios) and place.base.parent == base:
            return place
    base.mkdir()
    volume = Helios(base)
    site.place.beside.append(volume)
    make(volume)
    volume.settle()
    return volume


class _Large:
    """Snapshots of a large tree, in a volume of its own that is made once for all works with so many files."""

    def __init__(self, files: int) -> None:
        self._files = files

    def volume(self, site: Site) -> Helios:
        return volume_beside(site, f"large{self._files}", lambda volume: fill(volume.directory, self._files))

    def in_a_row(self, site: Site) -> Sample:
        top = self.volume(site).directory
        return timed(lambda number: os.mkdir(top / ".snapshots" / f"q{site.seed}-{number}"), MANY)

    def after(self, site: Site, touch: Callable[[str, int], None]) -> Sample:
        """Each of them after thousands of requests for other files, with their number."""
        top = self.volume(site).directory
        each = []
        for number in range(TOUCHED_TIMES):
            for file in range(TOUCHED):
                touch(f"{top}/{file // PER_DIRECTORY}/{file}", number)
            start = time.perf_counter()
            os.mkdir(top / ".snapshots" / f"{touch.__name__}{site.seed}-{number}")
            each.append(time.perf_counter() - start)
        return Sample(sum(each), len(each), tuple(each))


def _open(path: str, _: int) -> None:
    os.close(os.open(path, os.O_RDONLY))


def _change(path: str, number: int) -> None:
    os.chmod(path, 0o600 + number % 2)


def fill(top: Path, files: int) -> None:
    """Empty files, a thousand to a directory."""
    for number in range(files):
        directory = f"{top}/{number // PER_DIRECTORY}"
        if not number % PER_DIRECTORY:
            os.mkdir(directory)
        os.close(os.open(f"{directory}/{number}", os.O_WRONLY | os.O_CREAT))


def _large(name: str, files: int, run: Callable[[_Large, Site], Sample], against: str = "") -> Work:
    large = _Large(files)
    return Work(name, partial(run, large), large.volume, checkpoint=True, against=against, where=large.volume)


class _Crowd:
    """Ten busy branches of a volume that has so many, made once for all rounds."""

    def __init__(self, branches: int) -> None:
        self._branches = branches

    def volume(self, site: Site) -> Helios:
        return volume_beside(site, f"branches{self._branches}", self._fill)

    def _fill(self, volume: Helios) -> None:
        fill(volume.directory, PER_DIRECTORY)
        for number in range(self._branches):
            os.mkdir(volume.directory / ".branches" / f"b{number}")

    def prepare(self, site: Site) -> None:
        """What the work in one volume leaves to do would be done beside the work in the other one."""
        self.volume(site)
        for place in (site.place, *site.place.beside):
            place.settle()

    def run(self, site: Site) -> Sample:
        top = self.volume(site).directory / ".branches"
        start = time.perf_counter()
        for number in range(BUSY_BRANCHES):
            client(f"{top}/b{number}/round{site.seed}", BUSY_FILES)
        return Sample(time.perf_counter() - start, BUSY_BRANCHES * BUSY_FILES)


def _crowd(name: str, branches: int, against: str = "") -> Work:
    crowd = _Crowd(branches)
    return Work(name, crowd.run, crowd.prepare, checkpoint=True, against=against, where=crowd.volume)


CHECKPOINTS: Final = (
    Work("mkdir", make_directory, first(settle)),
    Work("snapshot", snapshot, first(prepare, settle), checkpoint=True),
    Work("drop snapshot", drop_snapshot, _prepare_drop_snapshot, checkpoint=True),
    Work("fork", fork, first(prepare, settle), checkpoint=True),
    Work("drop fork", drop_fork, _prepare_drop_fork, checkpoint=True),
    Work("edit 3, snapshot", agent_loop, first(prepare, settle), checkpoint=True),
    Work("restore", restore, first(prepare, settle), checkpoint=True),
    Work("engine: snapshot", engine.snapshot, first(), checkpoint=True, where=nowhere),
    Work("engine: restore", engine.restore, first(), checkpoint=True, where=nowhere),
    _crowd("work in 10 branches", BUSY_BRANCHES),
    _crowd("work in 10 of 1000", 1000, "work in 10 branches"),
    _large("snapshot of nothing", 0, _Large.in_a_row),
    _large("snapshot of 100,000", LARGE, _Large.in_a_row, "snapshot of nothing"),
    _large("snapshot, 10,000 read", LARGE, partial(_Large.after, touch=_open)),
    _large("snapshot, 10,000 changed", LARGE, partial(_Large.after, touch=_change), "snapshot, 10,000 read"),
)
