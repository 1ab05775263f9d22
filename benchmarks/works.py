"""The works: what people do with a filesystem, each timed as a whole.

A work gets a `Site`, which is a fresh directory of a place in this round. Works run in the order in which they stand
here, and later ones use what earlier ones left; what is missing because it was not chosen is made untimed.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.places import Place
from benchmarks.tree import Tree

SMALL_FILES: Final = 1000
COMMITS: Final = 1000
STREAM_BYTES: Final = 256 << 20
PIECE_BYTES: Final = 1 << 20
PAGES: Final = 4000
PAGE: Final = 4096
CLIENT_FILES: Final = 400
"""Files of each client of the works with several at once."""

_GIT: Final = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "bench",
    "GIT_AUTHOR_EMAIL": "bench@example.org",
    "GIT_COMMITTER_NAME": "bench",
    "GIT_COMMITTER_EMAIL": "bench@example.org",
}


class Sample(NamedTuple):
    """One run of a work. `each` holds the seconds of single operations where those were timed."""

    seconds: float
    operations: int
    each: tuple[float, ...] = ()
    size: int = 0
    """Bytes that were moved, where the rate is what matters."""


class Site:
    """A directory of one place, used by all works of a round."""

    def __init__(self, place: Place, tree: Tree, number: int) -> None:
        self.place = place
        self.tree = tree
        self.directory = place.directory / f"round{number}"
        self.seed = number
        self.directory.mkdir()

    def shell(self, command: str, operations: int = 1) -> Sample:
        """Time one command line."""
        start = time.perf_counter()
        result = subprocess.run(
            ["sh", "-c", command],
            cwd=self.directory,
            env={**os.environ, **_GIT, "HOME": str(self.place.base)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        seconds = time.perf_counter() - start
        if result.returncode:
            message = result.stderr.decode(errors="replace")[-500:]
            raise RuntimeError(f"{self.place.name}: `{command}` failed: {message}")
        return Sample(seconds, operations)

    def need_tree(self) -> None:
        if not (self.directory / "py").exists():
            self.shell(f"tar xf {self.tree.archive}")

    def need_repository(self) -> None:
        self.need_tree()
        if not (self.directory / "py" / ".git").exists():
            self.shell("cd py && git init -q .")

    def need_commit(self) -> None:
        self.need_repository()
        if not (self.directory / "py" / ".git" / "refs" / "heads" / "master").exists():
            self.shell("cd py && git add -A && git commit -qm all")

    def need_stream(self) -> Path:
        path = self.directory / "stream"
        if not path.exists():
            _write_stream(path, self.seed)
        return path

    def remove(self) -> None:
        self.place.remove(self.directory)


class Work(NamedTuple):
    """A work: `prepare` runs untimed, before the caches are dropped for a `cold` one."""

    name: str
    run: Callable[[Site], Sample]
    prepare: Callable[[Site], object]
    cold: bool = False
    checkpoint: bool = False
    """Only for places that keep states of a tree."""
    named: bool = False
    """Takes minutes to prepare, so it is done only when it is named."""
    against: str = ""
    """The name of a work that should take as long: the ratio to it is printed."""
    where: Callable[[Site], Place | None] = lambda site: site.place
    """The mount that it is done on, where requests are counted; None for a work without one."""


def nowhere(_: Site) -> None:
    """For a work that is not done on a mount, or makes one."""


def cold(work: Work) -> Work:
    """The same work with the store just opened and nothing cached. Where operations are timed one by one, the first
    alone counts: it warms what the others need."""

    def run(site: Site) -> Sample:
        sample = work.run(site)
        return sample._replace(seconds=sample.each[0], each=sample.each[:1]) if sample.each else sample

    return work if work.cold else work._replace(name=f"{work.name.removesuffix(', warm')}, cold", run=run, cold=True)


def first(*steps: Callable[[Site], object]) -> Callable[[Site], None]:
    """A preparation of several steps."""

    def prepare(site: Site) -> None:
        for step in steps:
            step(site)

    return prepare


def settle(site: Site) -> None:
    site.place.settle()


# Commands on the tree


def tar(site: Site) -> Sample:
    return site.shell(f"tar xf {site.tree.archive}", site.tree.files)


def copy(site: Site) -> Sample:
    return site.shell("cp -r py copy", site.tree.files)


def find(site: Site) -> Sample:
    return site.shell("find . -name nothing", site.tree.files)


def list_all(site: Site) -> Sample:
    return site.shell("ls -lR py", site.tree.files)


def grep(site: Site) -> Sample:
    return site.shell("grep -r zzqqyy py || test $? = 1", site.tree.files)


def git_add(site: Site) -> Sample:
    return site.shell("cd py && git add -A", site.tree.files)


def git_commit(site: Site) -> Sample:
    return site.shell("cd py && git commit -qm all", 1)


def git_status(site: Site) -> Sample:
    return site.shell("cd py && git status --short", site.tree.files)


def _prepare_status(site: Site) -> None:
    site.need_commit()
    git_status(site)  # the first one after a commit may refresh the index


def remove(site: Site) -> Sample:
    """The tree, its copy and its repository."""
    return site.shell("rm -rf py copy", site.tree.files)


# Small operations


def small(site: Site) -> Sample:
    return site.shell(f"mkdir small; for i in $(seq {SMALL_FILES}); do echo hello > small/$i; done", SMALL_FILES)


def _need_small(site: Site) -> None:
    if not (site.directory / "small").exists():
        small(site)
    open_read(site)
    stat(site)  # a read from below makes the kernel ask for the access time once more


def stat(site: Site) -> Sample:
    paths = _small_paths(site)
    start = time.perf_counter()
    for path in paths:
        os.stat(path)
    return Sample(time.perf_counter() - start, len(paths))


def open_read(site: Site) -> Sample:
    paths = _small_paths(site)
    start = time.perf_counter()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.read(descriptor, PAGE)
        os.close(descriptor)
    return Sample(time.perf_counter() - start, len(paths))


def _small_paths(site: Site) -> list[str]:
    return [f"{site.directory}/small/{number}" for number in range(1, SMALL_FILES + 1)]


def sqlite(site: Site) -> Sample:
    """Autocommits in WAL mode, each synced, as sqlite does by default."""
    connection = sqlite3.connect(site.directory / "test.db", isolation_level=None)
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table t (a, b)")
        start = time.perf_counter()
        for number in range(COMMITS):
            connection.execute("insert into t values (?, ?)", (number, "x" * 200))
        return Sample(time.perf_counter() - start, COMMITS)
    finally:
        connection.close()


def append(site: Site) -> Sample:
    descriptor = os.open(site.directory / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    line = b"x" * 99 + b"\n"
    start = time.perf_counter()
    for _ in range(PAGES):
        os.write(descriptor, line)
    seconds = time.perf_counter() - start
    os.close(descriptor)
    return Sample(seconds, PAGES)


# Large files


def _write_stream(path: Path, seed: int) -> float:
    """Write the same bytes for the same seed; only the writing is timed."""
    block = random.Random(seed).randbytes(PIECE_BYTES)
    pieces = [number.to_bytes(8, "big") + block[8:] for number in range(8)]
    seconds = 0.0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in range(STREAM_BYTES // PIECE_BYTES):
        # New bytes in every piece, made faster than a generator makes them.
        at = 8 + number * 4099 % (PIECE_BYTES - 8)
        piece = pieces[number % 8]
        data = number.to_bytes(8, "big") + piece[at:] + piece[8:at]
        start = time.perf_counter()
        os.write(descriptor, data)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    os.close(descriptor)
    return seconds + time.perf_counter() - start


def write_new(site: Site) -> Sample:
    seconds = _write_stream(site.directory / "stream", site.seed)
    return Sample(seconds, STREAM_BYTES // PIECE_BYTES, size=STREAM_BYTES)


def write_again(site: Site) -> Sample:
    """The same bytes into another file."""
    seconds = _write_stream(site.directory / "again", site.seed)
    return Sample(seconds, STREAM_BYTES // PIECE_BYTES, size=STREAM_BYTES)


def read(site: Site) -> Sample:
    start = time.perf_counter()
    descriptor = os.open(site.directory / "stream", os.O_RDONLY)
    while os.read(descriptor, PIECE_BYTES):
        pass
    os.close(descriptor)
    return Sample(time.perf_counter() - start, STREAM_BYTES // PIECE_BYTES, size=STREAM_BYTES)


def _warm_stream(site: Site) -> None:
    site.need_stream()
    read(site)


def _offsets() -> list[int]:
    return [number * 7919 % (STREAM_BYTES // PAGE) * PAGE for number in range(PAGES)]


def random_read(site: Site) -> Sample:
    offsets = _offsets()
    descriptor = os.open(site.directory / "stream", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    start = time.perf_counter()
    for offset in offsets:
        os.pread(descriptor, PAGE, offset)
    seconds = time.perf_counter() - start
    os.close(descriptor)
    return Sample(seconds, PAGES)


def random_write(site: Site) -> Sample:
    offsets = _offsets()
    data = os.urandom(PAGE)
    descriptor = os.open(site.directory / "stream", os.O_RDWR)
    start = time.perf_counter()
    for offset in offsets:
        os.pwrite(descriptor, data, offset)
    seconds = time.perf_counter() - start
    os.close(descriptor)
    return Sample(seconds, PAGES)


# Several at once


def client(directory: str, files: int = CLIENT_FILES) -> None:
    """Make, read and remove files, as a build does."""
    os.mkdir(directory)
    data = b"x" * PAGE
    for number in range(files):
        path = f"{directory}/{number}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(descriptor, data)
        os.close(descriptor)
        os.stat(path)
        descriptor = os.open(path, os.O_RDONLY)
        os.read(descriptor, PAGE)
        os.close(descriptor)
    for number in range(files):
        os.unlink(f"{directory}/{number}")


def _clients(count: int) -> Callable[[Site], Sample]:
    def run(site: Site) -> Sample:
        gate, opener = os.pipe()
        children = []
        for number in range(count):
            child = os.fork()
            if not child:
                status = 1
                try:
                    os.close(opener)
                    os.read(gate, 1)  # ends when the parent closes its end
                    client(f"{site.directory}/clients{count}-{number}")
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        os.close(gate)
        start = time.perf_counter()
        os.close(opener)
        failed = [child for child in children if os.waitpid(child, 0)[1]]
        seconds = time.perf_counter() - start
        if failed:
            raise RuntimeError(f"{site.place.name}: a client failed")
        return Sample(seconds, count * CLIENT_FILES)

    return run


WORKS: Final = (
    Work("tar xf", tar, first()),
    Work("cp -r", copy, Site.need_tree),
    Work("find, warm", find, first(Site.need_tree, find)),
    Work("find, cold", find, Site.need_tree, cold=True),
    Work("ls -lR, warm", list_all, first(Site.need_tree, list_all)),
    Work("ls -lR, cold", list_all, Site.need_tree, cold=True),
    Work("grep -r, cold", grep, Site.need_tree, cold=True),
    Work("grep -r, warm", grep, first(Site.need_tree, grep)),
    Work("git add -A", git_add, Site.need_repository),
    Work("git commit", git_commit, first(Site.need_repository, git_add)),
    Work("git status, warm", git_status, _prepare_status),
    Work("git status, cold", git_status, _prepare_status, cold=True),
    Work("rm -rf", remove, Site.need_commit),
    Work("1000 small files", small, first()),
    Work("stat", stat, _need_small),
    Work("open+read", open_read, _need_small),
    Work("stat, cold", stat, _need_small, cold=True),
    Work("open+read, cold", open_read, _need_small, cold=True),
    Work("sqlite, WAL", sqlite, first()),
    Work("append 100 B", append, first()),
    Work("write, new", write_new, first()),
    Work("write, stored", write_again, first(Site.need_stream, settle)),
    Work("read, cold", read, first(Site.need_stream, settle), cold=True),
    Work("read, warm", read, _warm_stream),
    Work("random read, cold", random_read, Site.need_stream, cold=True),
    Work("random write", random_write, first(Site.need_stream, settle)),
    Work("2 clients", _clients(2), first()),
    Work("4 clients", _clients(4), first()),
    Work("8 clients", _clients(8), first()),
)
