"""A program run on two directories side by side: after each step one outcome, at the end one tree."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..neighbour import NeighbourProcess
from ..volumes import MountedVolume
from .steps import DISTURBANCE, Step
from .worker import status

WORKER = Path(__file__).with_name("worker.py")
WAIT_SECONDS = 300
COMPARE_EVERY = 25
SHORT = 150
"""Programs of up to this length compare the trees after every step: a difference then names its cause."""

USERS = ((0,), (65534,), (1000, 65534))
"""Whom the processes act as, when the fuzzer itself is root, and their further groups; otherwise all are whoever
runs it."""


MOUNT_OPTIONS = ("dev", "suid") if os.geteuid() == 0 else ()
"""The host's filesystem allows devices and set-id programs, so the mount has to as well."""


class Difference(NamedTuple):
    step: int
    what: str
    ours: Any
    host: Any

    def __str__(self) -> str:
        return f"step {self.step}: {self.what}\n  ours: {self.ours}\n  host: {self.host}"


class Process:
    """One worker in one directory."""

    def __init__(self, directory: Path, number: int) -> None:
        user = USERS[number % len(USERS)] if os.geteuid() == 0 else (0,)
        self._worker = subprocess.Popen(
            [sys.executable, str(WORKER), *map(str, user)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=directory,
            text=True,
        )

    def ask(self, step: Sequence[Any]) -> None:
        assert self._worker.stdin is not None
        self._worker.stdin.write(json.dumps(step) + "\n")
        self._worker.stdin.flush()

    def answer(self) -> Any:
        assert self._worker.stdout is not None
        line = self._worker.stdout.readline()
        return json.loads(line) if line else f"the process ended with {self._worker.wait(WAIT_SECONDS)}"

    def end(self) -> None:
        for pipe in (self._worker.stdin, self._worker.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self._worker.wait(WAIT_SECONDS)


Summary = dict[str, Any]


def summary(root: Path) -> Summary:
    """Everything that can be told of a tree, by path; the same for equal trees."""
    found: Summary = {}
    links: dict[tuple[int, int], list[str]] = {}
    pending = ["."]
    while pending:
        path = pending.pop()
        full = os.path.join(root, path)
        seen = os.lstat(full)
        entry = found[path] = status(seen)
        kind = stat.S_IFMT(seen.st_mode)
        if kind == stat.S_IFREG:
            entry["content"] = _digest(full)
            links.setdefault((seen.st_dev, seen.st_ino), []).append(path)
        elif kind == stat.S_IFLNK:
            entry["target"] = os.readlink(full)
        elif kind == stat.S_IFDIR:
            names = sorted(os.listdir(full))
            pending.extend(name if path == "." else f"{path}/{name}" for name in names)
        entry["xattrs"] = _xattrs(full)
    for paths in links.values():
        for path in paths:
            found[path]["links"] = sorted(paths)
    return found


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()[:16]


def _xattrs(path: str) -> dict[str, str]:
    names = os.listxattr(path, follow_symlinks=False)
    return {
        name: hashlib.sha256(os.getxattr(path, name, follow_symlinks=False)).hexdigest()[:16]
        for name in sorted(names)
        if not name.startswith(("security.", "user.heliosfs."))
    }


def apart(ours: Summary, host: Summary) -> tuple[str, Any, Any] | None:
    """The first path at which two trees differ, with what each has there."""
    for path in sorted(ours.keys() | host.keys()):
        one, two = ours.get(path), host.get(path)
        if one != two:
            if one is not None and two is not None:
                keys = [key for key in one.keys() | two.keys() if one.get(key) != two.get(key)]
                one, two = {key: one.get(key) for key in keys}, {key: two.get(key) for key in keys}
            return f"the trees differ at {path!r}", one, two
    return None


class Arena(Protocol):
    """Where duels take place: a fresh pair of directories for each, and the disturbances of our side."""

    def pair(self) -> contextlib.AbstractContextManager[tuple[Path, Path]]: ...

    def disturb(self, kind: str, number: int, host: Path) -> tuple[str, Any, Any] | None: ...

    def settle(self, ours: Path) -> tuple[str, Any, Any] | None: ...

    def unsettles(self, kind: str) -> bool: ...


class HostArena:
    """Two directories of the host: proves the fuzzer itself, which must find no difference."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._count = 0

    @contextlib.contextmanager
    def pair(self) -> Iterator[tuple[Path, Path]]:
        self._count += 1
        both = (self._base / f"ours-{self._count}", self._base / f"host-{self._count}")
        for directory in both:
            directory.mkdir()
            directory.chmod(0o777)
        try:
            yield both
        finally:
            for directory in both:
                shutil.rmtree(directory, ignore_errors=True)

    def disturb(self, kind: str, number: int, host: Path) -> tuple[str, Any, Any] | None:
        return None

    def settle(self, ours: Path) -> tuple[str, Any, Any] | None:
        return None

    def unsettles(self, kind: str) -> bool:
        return False


class VolumeArena(HostArena):
    """Our side is a directory of a mounted volume, which can be snapshotted, forked, remounted and killed.

    With `in_branch` it lies in a branch instead of in the main tree. With `busy` a neighbour works all the time in
    other branches, forks of that one too.
    """

    def __init__(self, base: Path, volume: MountedVolume, in_branch: bool = False, busy: bool = False) -> None:
        super().__init__(base)
        self._volume = volume
        self._root = volume.path
        self._others: list[Path] = []
        if in_branch:
            self._root = volume.path / ".branches" / "tested"
            self._root.mkdir()
            self._others = [volume.path]
        self._busy = busy
        self._neighbour: NeighbourProcess | None = None
        self._ours = self._root
        self._snapshots: dict[str, Summary] = {}
        self._branches: dict[str, Summary] = {}

    @contextlib.contextmanager
    def pair(self) -> Iterator[tuple[Path, Path]]:
        with super().pair() as (spare, host):
            spare.rmdir()
            self._ours = self._root / f"duel-{self._count}"
            self._ours.mkdir()
            self._ours.chmod(0o777)
            try:
                self._start_neighbour()
                yield self._ours, host
            finally:
                if self._neighbour:
                    self._neighbour.end()
                    self._neighbour = None
                self._clear()

    def _clear(self) -> None:
        for name in os.listdir(self._root / ".branches"):
            _drop(self._root / ".branches" / name)
        for name in os.listdir(self._root / ".snapshots"):
            os.rmdir(self._root / ".snapshots" / name)
        self._branches.clear()
        self._snapshots.clear()
        shutil.rmtree(self._ours, ignore_errors=True)

    def _start_neighbour(self) -> None:
        if self._busy:
            self._neighbour = NeighbourProcess(self._count, self._root, self._others)

    def _finish_neighbour(self) -> tuple[str, Any, Any] | None:
        problem = self._neighbour.finish() if self._neighbour else ""
        self._neighbour = None
        return ("the neighbour is disturbed", problem, None) if problem else None

    def unsettles(self, kind: str) -> bool:
        return kind in ("remount", "kill")

    def disturb(self, kind: str, number: int, host: Path) -> tuple[str, Any, Any] | None:
        name = f"d{self._count}-{number}"
        if kind == "snapshot":
            (self._root / ".snapshots" / name).mkdir()
            self._snapshots[name] = summary(host)
        elif kind == "fork":
            (self._root / ".branches" / name).mkdir()
            self._branches[name] = summary(host)
        elif kind == "write in fork" and self._branches:
            self._write_in_fork(next(iter(self._branches)), number)
        elif kind == "drop" and self._snapshots:
            oldest = next(iter(self._snapshots))
            found = self._check(".snapshots", oldest, self._snapshots.pop(oldest))
            os.rmdir(self._root / ".snapshots" / oldest)
            return found
        elif kind == "go back" and self._snapshots:
            return self._go_back(name, self._snapshots, summary(host))
        elif kind == "sync":
            self._volume.call("sync", self._root)
        elif self.unsettles(kind):
            found = self._finish_neighbour()
            if kind == "kill":
                self._volume.kill()
                self._volume.mount()
            else:
                self._volume.remount()
            self._start_neighbour()
            return found
        return None

    def _write_in_fork(self, name: str, number: int) -> None:
        """Change a branch all over: nothing of it may show in the tree that it was forked from."""
        tree = self._root / ".branches" / name / self._ours.name
        for path, entry in list(self._branches[name].items()):
            if "content" in entry:
                with contextlib.suppress(OSError):
                    os.truncate(tree / path, number)
        with contextlib.suppress(FileExistsError):
            (tree / f"of the fork {number}").mkdir()
        self._branches[name] = summary(tree)

    def _go_back(self, name: str, snapshots: dict[str, Summary], now: Summary) -> tuple[str, Any, Any] | None:
        """To an older state and forward again: whoever has files open, by any name, finds them as they were."""
        (self._root / ".snapshots" / name).mkdir()
        older = next(iter(snapshots))
        if found := self._check(".snapshots", older, snapshots[older]):
            return found
        for state, expected in ((older, snapshots[older]), (name, now)):
            self._volume.call("restore", self._root, state=state)
            if found := apart(summary(self._ours), expected):
                return f"restored to {state}: {found[0]}", found[1], found[2]
        os.rmdir(self._root / ".snapshots" / name)
        return None

    def _check(self, kind: str, name: str, expected: Summary) -> tuple[str, Any, Any] | None:
        found = apart(summary(self._root / kind / name / self._ours.name), expected)
        return found and (f"{kind}/{name}: {found[0]}", found[1], found[2])

    def settle(self, ours: Path) -> tuple[str, Any, Any] | None:
        """Snapshots and branches hold what the tree held when they were made."""
        for kind, made in ((".snapshots", self._snapshots), (".branches", self._branches)):
            for name, expected in made.items():
                if found := self._check(kind, name, expected):
                    return found
        return self._finish_neighbour()


def _drop(branch: Path) -> None:
    """A branch that has branches stays, so these go first."""
    for name in os.listdir(branch / ".branches"):
        _drop(branch / ".branches" / name)
    branch.rmdir()


class Sides:
    """The processes of both sides; restarted when the mount goes away under them.

    With `parallel` each process has a directory of its own, so that what the others do at the same time changes
    nothing for it.
    """

    def __init__(self, ours: Path, host: Path, count: int, parallel: bool) -> None:
        self._directories = (ours, host)
        self._count = count
        self._parallel = parallel
        self._pairs: list[tuple[Process, Process]] = []

    def start(self) -> None:
        self._pairs = []
        for number in range(self._count):
            ours, host = self._directories
            if self._parallel:
                ours, host = ours / f"p{number}", host / f"p{number}"
                for directory in (ours, host):
                    directory.mkdir(exist_ok=True)
                    directory.chmod(0o777)
            self._pairs.append((Process(ours, number), Process(host, number)))

    def end(self) -> None:
        for pair in self._pairs:
            for process in pair:
                process.end()
        self._pairs = []

    def forget_unlinked(self) -> None:
        """Have all processes let go of files without a name: these belong to no state that one can return to."""
        for pair in self._pairs:
            for process in pair:
                process.ask(["forget_unlinked"])
                process.answer()

    def run(self, steps: Sequence[Step]) -> list[tuple[Any, Any]]:
        """All at the same time, but those of one process in their order; what came of each."""
        pairs = [self._pairs[step[0] % self._count] for step in steps]
        for pair, step in zip(pairs, steps, strict=True):
            for process in pair:
                process.ask(step[1:])
        return [(ours.answer(), host.answer()) for ours, host in pairs]


def windows(steps: Sequence[Step], length: int) -> Iterator[tuple[int, Sequence[Step]]]:
    """Pieces of a program of up to this length, each with where it begins; disturbances stand alone."""
    start = 0
    for index, step in enumerate(steps):
        if step[0] == DISTURBANCE:
            if start < index:
                yield start, steps[start:index]
            yield index, [step]
            start = index + 1
        elif index + 1 - start == length:
            yield start, steps[start : index + 1]
            start = index + 1
    if start < len(steps):
        yield start, steps[start:]


def duel(
    arena: Arena,
    steps: Sequence[Step],
    processes: int,
    parallel: bool = False,
) -> Difference | None:
    """Run a program on both sides; the first difference, or None."""
    every = 1 if len(steps) <= SHORT else COMPARE_EVERY
    with arena.pair() as (ours, host):
        sides = Sides(ours, host, processes, parallel)
        sides.start()
        try:
            compared = 0
            for index, window in windows(steps, COMPARE_EVERY if parallel else 1):
                if window[0][0] == DISTURBANCE:
                    found = _disturbed(arena, sides, window[0], host)
                    if found is not None:
                        return Difference(index, *found)
                    continue
                for step, (one, two) in zip(window, sides.run(window), strict=True):
                    if one != two and not excused(step, one, two):
                        return Difference(index, f"{describe(step)}", one, two)
                if index + len(window) - compared >= every:
                    compared = index + len(window)
                    if found := apart(summary(ours), summary(host)):
                        return Difference(index, *found)
            found = apart(summary(ours), summary(host)) or arena.settle(ours)
            return Difference(len(steps) - 1, *found) if found else None
        finally:
            sides.end()


def _disturbed(arena: Arena, sides: Sides, step: Step, host: Path) -> tuple[str, Any, Any] | None:
    if arena.unsettles(step[1]):
        sides.end()
    elif step[1] == "go back":
        sides.forget_unlinked()
    try:
        return arena.disturb(step[1], step[2], host)
    finally:
        if arena.unsettles(step[1]):
            sides.start()


def excused(step: Step, ours: Any, host: Any) -> bool:
    """The differences that FUSE or the host's filesystem cause, and nobody else."""
    operation = step[1] if step[1] != "timed" else step[3][0]
    if operation in ("setxattr", "setacl"):  # the host keeps all attributes of a file in one block
        return "ENOSPC" in (host, host[0] if isinstance(host, list) else "")
    return False


def describe(step: Step) -> str:
    """A step as one reads it."""
    process, operation, *arguments = step
    words = ", ".join(repr(argument) for argument in arguments)
    return f"disturb({operation})" if process == DISTURBANCE else f"process {process}: {operation}({words})"
