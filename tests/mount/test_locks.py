"""Locks: flock, POSIX record locks and open file description locks, between processes and within one."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import Child, fails, opened

F_OFD_GETLK, F_OFD_SETLK = 36, 37

HELPER = """
import errno, fcntl, os, sys
file = os.open("file", os.O_RDWR)
print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    try:
        if words[0] == "flock":
            fcntl.flock(file, int(words[1]))
            print("ok", flush=True)
        elif words[0] == "wait":
            print("waiting", flush=True)
            (fcntl.flock if words[1] == "flock" else fcntl.lockf)(file, fcntl.LOCK_EX)
            print("ok", flush=True)
        elif words[0] == "lockf":
            fcntl.lockf(file, *map(int, words[1:]))
            print("ok", flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
"""


@pytest.fixture
def file(tree: Path) -> Path:
    (tree / "file").write_bytes(bytes(100))
    return tree / "file"


@pytest.fixture
def other(file: Path) -> Iterator[Child]:
    """Another process with the file open, which locks as it is told."""
    with Child(HELPER, cwd=file.parent) as child:
        assert child.hear() == "ready"
        yield child


def ask(child: Child, *words: object) -> str:
    child.say(" ".join(map(str, words)))
    return child.hear()


EXCLUSIVE = fcntl.LOCK_EX | fcntl.LOCK_NB
SHARED = fcntl.LOCK_SH | fcntl.LOCK_NB


def test_flock_excludes_other_processes(file: Path, other: Child) -> None:
    with opened(file, os.O_RDWR) as descriptor:
        fcntl.flock(descriptor, EXCLUSIVE)
        assert ask(other, "flock", EXCLUSIVE) == "EAGAIN"
        assert ask(other, "flock", SHARED) == "EAGAIN"
        fcntl.flock(descriptor, SHARED)
        assert ask(other, "flock", SHARED) == "ok"
        with fails(errno.EAGAIN):
            fcntl.flock(descriptor, EXCLUSIVE)
        assert ask(other, "flock", fcntl.LOCK_UN) == "ok"
        fcntl.flock(descriptor, EXCLUSIVE)
    assert ask(other, "flock", EXCLUSIVE) == "ok"  # closing unlocked it


def test_flock_belongs_to_the_open_file(file: Path) -> None:
    with opened(file, os.O_RDWR) as one, opened(file, os.O_RDWR) as two:
        fcntl.flock(one, EXCLUSIVE)
        with fails(errno.EAGAIN):
            fcntl.flock(two, EXCLUSIVE)
        copy = os.dup(one)
        fcntl.flock(copy, fcntl.LOCK_UN)
        os.close(copy)
        fcntl.flock(two, EXCLUSIVE)


@pytest.mark.parametrize("kind", ["flock", "lockf"])
def test_waiting_ends_with_the_unlock(file: Path, other: Child, kind: str) -> None:
    lock = fcntl.flock if kind == "flock" else fcntl.lockf
    with opened(file, os.O_RDWR) as descriptor:
        lock(descriptor, fcntl.LOCK_EX)
        other.say(f"wait {kind}")
        assert other.hear() == "waiting"
        lock(descriptor, fcntl.LOCK_UN)
        assert other.hear() == "ok"
        with fails(errno.EAGAIN, errno.EACCES):
            lock(descriptor, EXCLUSIVE)


def test_a_lock_dies_with_its_process(file: Path) -> None:
    with opened(file, os.O_RDWR) as descriptor:
        with Child(HELPER, cwd=file.parent) as child:
            assert child.hear() == "ready"
            assert ask(child, "flock", EXCLUSIVE) == "ok"
            assert ask(child, "lockf", EXCLUSIVE) == "ok"
            with fails(errno.EAGAIN):
                fcntl.flock(descriptor, EXCLUSIVE)
        fcntl.flock(descriptor, EXCLUSIVE)
        fcntl.lockf(descriptor, EXCLUSIVE)


def test_record_locks_cover_ranges(file: Path, other: Child) -> None:
    with opened(file, os.O_RDWR) as descriptor:
        fcntl.lockf(descriptor, EXCLUSIVE, 10, 20)  # bytes 20 to 29
        assert ask(other, "lockf", EXCLUSIVE, 20, 0) == "ok"
        assert ask(other, "lockf", EXCLUSIVE, 21, 0) in ("EAGAIN", "EACCES")
        assert ask(other, "lockf", SHARED, 1, 29) in ("EAGAIN", "EACCES")
        assert ask(other, "lockf", EXCLUSIVE, 0, 30) == "ok"  # to the end, however far
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 5, 20)
        assert ask(other, "lockf", EXCLUSIVE, 5, 20) == "ok"
        assert ask(other, "lockf", EXCLUSIVE, 1, 25) in ("EAGAIN", "EACCES")


def test_record_locks_name_their_holder(file: Path, other: Child) -> None:
    assert ask(other, "lockf", EXCLUSIVE, 10, 0) == "ok"
    with opened(file, os.O_RDWR) as descriptor:
        question = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 5, 1, 0)
        kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
        assert (kind, start, length, pid) == (fcntl.F_WRLCK, 0, 10, other.process.pid)
        question = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 50, 1, 0)
        assert struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_GETLK, question))[0] == fcntl.F_UNLCK


def test_closing_any_descriptor_drops_the_record_locks(file: Path, other: Child) -> None:
    with opened(file, os.O_RDWR) as descriptor:
        fcntl.lockf(descriptor, EXCLUSIVE)
        assert ask(other, "lockf", EXCLUSIVE) in ("EAGAIN", "EACCES")
        with opened(file):
            pass
        assert ask(other, "lockf", EXCLUSIVE) == "ok"


def test_open_file_description_locks(file: Path, other: Child) -> None:
    def lock(descriptor: int, kind: int, start: int = 0, length: int = 0) -> None:
        fcntl.fcntl(descriptor, F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))

    with opened(file, os.O_RDWR) as one, opened(file, os.O_RDWR) as two:
        lock(one, fcntl.F_WRLCK, 0, 10)
        with fails(errno.EAGAIN):
            lock(two, fcntl.F_RDLCK, 5, 1)
        assert ask(other, "lockf", EXCLUSIVE, 10, 0) in ("EAGAIN", "EACCES")
        lock(two, fcntl.F_WRLCK, 10, 10)
        with opened(file):
            pass  # unlike a POSIX lock, it is not lost by closing another descriptor
        assert ask(other, "lockf", EXCLUSIVE, 10, 0) in ("EAGAIN", "EACCES")
        question = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = struct.unpack("hhqqi4x", fcntl.fcntl(one, F_OFD_GETLK, question))
        assert (answer[0], answer[2], answer[3], answer[4]) == (fcntl.F_WRLCK, 10, 10, -1)
        lock(one, fcntl.F_UNLCK)
        assert ask(other, "lockf", EXCLUSIVE, 10, 0) == "ok"


def test_locks_follow_the_file_not_its_name(file: Path, other: Child) -> None:
    with opened(file, os.O_RDWR) as descriptor:
        fcntl.flock(descriptor, EXCLUSIVE)
        os.rename(file, file.parent / "moved")
        assert ask(other, "flock", EXCLUSIVE) == "EAGAIN"
        file.touch()
        with opened(file, os.O_RDWR) as another:
            fcntl.flock(another, EXCLUSIVE)
        (file.parent / "moved").unlink()
        assert ask(other, "flock", EXCLUSIVE) == "EAGAIN"
    assert ask(other, "flock", EXCLUSIVE) == "ok"
