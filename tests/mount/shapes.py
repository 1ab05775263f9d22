"""Writers of many shapes that can be killed with their mount at any moment, and what must be there afterwards.

    python shapes.py SHAPE ROOT NUMBER     goes on from turn NUMBER until the mount dies

A shape does one thing after another, each under the next number, and prints "try N" before and "done N" after. `check`
is given the last number that was done, and finds out whether the tree holds what that promises; what was tried last may
be there or not. Every shape bounds what it leaves, so that it can run for hours.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example", "-c", "gc.auto=0", "-c", "init.defaultBranch=main"]
TIMEOUT_SECONDS = 300


class Shape:
    """One kind of writer, in a directory of its own below the root of a mount."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / f"shape-{type(self).__name__.lower()}"

    def begin(self) -> None:
        """Before the first turn of a run; what a killed run left may be there."""
        self.home.mkdir(exist_ok=True)

    def turn(self, number: int) -> None:
        """Do the thing with this number. Done means acknowledged."""
        raise NotImplementedError

    def check(self, done: int) -> None:
        """AssertionError unless everything up to `done` is there, and of the next all or nothing."""
        raise NotImplementedError


def data_of(number: int) -> bytes:
    """What a shape writes in a turn: the same number gives the same bytes, of many sizes."""
    chance = random.Random(number)
    return b"%d\n" % number + chance.randbytes(chance.choice([0, 100, 5000, 60_000, 300_000]))


class Small(Shape):
    """Many small files, made and deleted."""

    KEPT = 200

    def turn(self, number: int) -> None:
        (self.home / str(number)).write_bytes(data_of(number)[:3000])
        with contextlib.suppress(FileNotFoundError):
            (self.home / str(number - self.KEPT)).unlink()

    def check(self, done: int) -> None:
        for number in range(max(1, done - self.KEPT + 2), done + 1):
            assert (self.home / str(number)).read_bytes() == data_of(number)[:3000], number
        assert len(os.listdir(self.home)) <= self.KEPT + 2


class Append(Shape):
    """Lines at the end of a log, some of them synced, and a new log now and then."""

    LINES = 500

    def turn(self, number: int) -> None:
        with (self.home / str(number // self.LINES)).open("ab", buffering=0) as file:
            file.write(b"line %d\n" % number)
            if number % 7 == 0:
                os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            (self.home / str(number // self.LINES - 2)).unlink()

    def check(self, done: int) -> None:
        log = done // self.LINES
        first = max(1, log * self.LINES)
        lines = (self.home / str(log)).read_bytes().split(b"\n") if done else [b""]
        assert lines.pop() == b""
        numbers = [int(line.split()[1]) for line in lines]
        # A turn whose acknowledgement was lost may have been done, and is done again by the next run.
        assert sorted(set(numbers)) == numbers or len(numbers) - len(set(numbers)) <= done
        assert set(numbers) >= set(range(first, done + 1)), "lines are missing"
        assert max(numbers, default=0) <= done + 1


class Replace(Shape):
    """A file that is replaced by a rename, as careful programs save."""

    def turn(self, number: int) -> None:
        new = self.home / "new"
        with new.open("wb") as file:
            file.write(data_of(number))
            file.flush()
            if number % 3 == 0:
                os.fsync(file.fileno())
        new.rename(self.home / "current")

    def check(self, done: int) -> None:
        if done:
            assert (self.home / "current").read_bytes() in (data_of(done), data_of(done + 1))


class Sqlite(Shape):
    """Transactions of a database in a file."""

    KEPT = 300

    def begin(self) -> None:
        super().begin()
        with contextlib.closing(sqlite3.connect(self.home / "db", timeout=60)) as database:
            database.execute("pragma journal_mode = wal")
            database.execute("create table if not exists t (number integer primary key, data blob)")

    def turn(self, number: int) -> None:
        with contextlib.closing(sqlite3.connect(self.home / "db", timeout=60)) as database, database:
            database.execute("insert or replace into t values (?, ?)", (number, data_of(number)[:20_000]))
            database.execute("delete from t where number <= ?", (number - self.KEPT,))

    def check(self, done: int) -> None:
        with contextlib.closing(sqlite3.connect(self.home / "db", timeout=60)) as database:
            assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
            found = dict(database.execute("select number, data from t").fetchall())
        for number in range(max(1, done - self.KEPT + 2), done + 1):
            assert found[number] == data_of(number)[:20_000], number


class Git(Shape):
    """Commits, and a new repository now and then."""

    COMMITS = 40

    def turn(self, number: int) -> None:
        place = self.home / str(number // self.COMMITS)
        if not (place / ".git" / "made").exists():
            # There is none, or the one that was being made when the mount was killed: git takes that for none.
            shutil.rmtree(place, ignore_errors=True)
            self._git(self.home, "init", "-q", str(place))
            (place / ".git" / "made").touch()
        for lock in (place / ".git").rglob("*.lock"):
            lock.unlink()
        (place / f"file-{number % 10}").write_bytes(data_of(number)[:9000])
        self._git(place, "add", "-A")
        self._git(place, "commit", "-q", "--allow-empty", "-m", f"turn {number}")
        shutil.rmtree(self.home / str(number // self.COMMITS - 2), ignore_errors=True)

    def check(self, done: int) -> None:
        if not done:
            return
        place = self.home / str(done // self.COMMITS)
        self._git(place, "fsck", "--strict", "--no-dangling")
        subjects = self._git(place, "log", "--format=%s").split("\n")
        first = max(1, done // self.COMMITS * self.COMMITS)
        assert {f"turn {number}" for number in range(first, done + 1)} <= set(subjects)
        assert self._git(place, "show", f":file-{done % 10}", text=False)

    @staticmethod
    def _git(place: Path, *words: str, text: bool = True) -> str:
        done = subprocess.run(
            [*GIT, "-C", str(place), *words], capture_output=True, timeout=TIMEOUT_SECONDS, check=False
        )
        assert done.returncode == 0, (words, done.stderr.decode(errors="replace"))
        return done.stdout.decode() if text else "there"


class Snapshots(Shape):
    """Snapshots of the whole tree, each with a mark that was written before it."""

    KEPT = 6

    def turn(self, number: int) -> None:
        (self.home / "mark").write_bytes(data_of(number))
        with contextlib.suppress(FileExistsError):
            self._snapshot(number).mkdir()
        with contextlib.suppress(FileNotFoundError):
            self._snapshot(number - self.KEPT).rmdir()

    def _snapshot(self, number: int) -> Path:
        return self.root / ".snapshots" / f"shape-{number}"

    def check(self, done: int) -> None:
        for number in range(max(1, done - self.KEPT + 2), done + 1):
            mark = self._snapshot(number) / self.home.name / "mark"
            assert mark.read_bytes() == data_of(number), number
        for name in os.listdir(self.root / ".snapshots"):
            for path in (self.root / ".snapshots" / name / self.home.name).iterdir():
                path.read_bytes()


class Branches(Shape):
    """A branch is forked, written in, merged and dropped."""

    KEPT = 20

    def turn(self, number: int) -> None:
        branch = self.root / ".branches" / f"shape-{number}"
        with contextlib.suppress(FileExistsError):
            branch.mkdir()
        (branch / self.home.name / str(number)).write_bytes(data_of(number))
        tell(self.root, "merge", branch.name)
        branch.rmdir()
        with contextlib.suppress(FileNotFoundError):
            (self.home / str(number - self.KEPT)).unlink()

    def check(self, done: int) -> None:
        for number in range(max(1, done - self.KEPT + 2), done + 1):
            assert (self.home / str(number)).read_bytes() == data_of(number), number
            assert not (self.root / ".branches" / f"shape-{number}").exists()


class Restores(Shape):
    """A branch goes back to its snapshot again and again."""

    def begin(self) -> None:
        self.home = self.root / ".branches" / "shape-restores"
        with contextlib.suppress(FileExistsError):
            self.home.mkdir()

    def turn(self, number: int) -> None:
        file, snapshot = self.home / "restored", self.home / ".snapshots" / str(number)
        file.write_bytes(data_of(number))
        with contextlib.suppress(FileExistsError):
            snapshot.mkdir()
        file.write_bytes(b"too much")
        (self.home / "left over").write_bytes(data_of(number + 1))
        tell(self.home, "restore", str(number))
        with contextlib.suppress(FileNotFoundError):
            (self.home / ".snapshots" / str(number - 3)).rmdir()

    def check(self, done: int) -> None:
        self.home = self.root / ".branches" / "shape-restores"
        if not done:
            return
        assert (self.home / ".snapshots" / str(done) / "restored").read_bytes() == data_of(done)
        now = (self.home / "restored").read_bytes()
        assert now in (data_of(done), b"too much") or data_of(done + 1).startswith(now)
        if now == data_of(done) and not (self.home / ".snapshots" / str(done + 1)).exists():
            assert not (self.home / "left over").exists()


SHAPES = {shape.__name__.lower(): shape for shape in (
    Small, Append, Replace, Sqlite, Git, Snapshots, Branches, Restores)}  # fmt: skip


def tell(root: Path, verb: str, text: str) -> None:
    """Use one of the verbs that are files."""
    with open(root / ".heliosfs" / verb, "wb", buffering=0) as file:
        file.write(text.encode())


class Writer:
    """A shape that runs in a process of its own, over and over with kills in between."""

    def __init__(self, name: str, root: Path, notes: Path) -> None:
        self.shape = SHAPES[name](root)
        self.done = 0
        self._name = name
        self._notes = notes
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._notes.open("wb") as notes, self._notes.with_suffix(".errors").open("wb") as errors:
            words = [sys.executable, __file__, self._name, str(self.shape.root), str(self.done + 1)]
            self._process = subprocess.Popen(words, stdout=notes, stderr=errors)

    def runs(self) -> bool:
        """Whether it has not ended by itself: only the end of the mount is a reason for that."""
        return self._process is not None and self._process.poll() is None

    def has_begun(self) -> bool:
        """Whether it has tried something in this run. Killed before that, the mount may be gone from under its path
        when it makes its directory, and it would go on there."""
        return b"try" in self._notes.read_bytes()

    def turns(self) -> int:
        """How many it has done in this run so far."""
        return self._notes.read_bytes().count(b"done")

    def wait(self) -> None:
        """Until it has noticed that the mount is gone. What it says of the reason must be that."""
        assert self._process is not None
        self._process.wait(TIMEOUT_SECONDS)
        done = [int(line.split()[1]) for line in self._notes.read_bytes().split(b"\n")[:-1] if line.startswith(b"done")]
        self.done = max([self.done, *done])

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(TIMEOUT_SECONDS)

    def failure(self) -> str:
        """What it complained of at last."""
        return self._notes.with_suffix(".errors").read_text(errors="replace")


def main() -> None:
    name, root, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    shape = SHAPES[name](root)
    shape.begin()
    while True:
        print("try", number, flush=True)
        shape.turn(number)
        print("done", number, flush=True)
        number += 1


if __name__ == "__main__":
    main()
