"""What the mount tests share: expected errors, other users, child processes, libc calls that Python lacks.

Nothing here knows HeliosFS: the same helpers prove the tests on the host's filesystem.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NOBODY = 65534
TIMEOUT_SECONDS = 300  # of any child process: only a hang reaches it, however loaded the machine is
CLOCK_TICK_SECONDS = 0.02  # longer than the coarsest clock that stamps files (a jiffy, 10 ms at most)

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400

on_host = "HELIOSFS_TEST_DIRECTORY" in os.environ
is_root = os.geteuid() == 0
root_only = pytest.mark.skipif(not is_root, reason="needs root")
mount_only = pytest.mark.skipif(on_host, reason="what HeliosFS alone does")

libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def fails(*codes: int) -> Iterator[None]:
    """The body must raise an OSError with one of these errnos."""
    try:
        yield
    except OSError as error:
        names = [errno.errorcode.get(code, str(code)) for code in codes]
        seen = errno.errorcode.get(error.errno or 0, str(error.errno))
        assert error.errno in codes, f"expected {names}, seen {seen}: {error}"
    else:
        pytest.fail(f"expected {[errno.errorcode.get(code, str(code)) for code in codes]}, but it succeeded")


@contextlib.contextmanager
def user(uid: int = NOBODY, gid: int = NOBODY, groups: Sequence[int] = ()) -> Iterator[None]:
    """Act with another user's rights: effective ids decide for files, and leaving 0 drops capabilities. Whoever
    is not root skips the rest of the test."""
    if not is_root:
        pytest.skip("needs root")
    before = os.getgroups()
    os.setgroups(list(groups))
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def facts(root: Path) -> dict[str, Any]:
    """All that is to be kept."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        stat = path.lstat()
        content: object = os.readlink(path) if path.is_symlink() else None
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            content = (content, {name: os.getxattr(path, name) for name in os.listxattr(path) if "user." in name})
        links = 0 if path.is_dir() else stat.st_nlink
        found[str(path.relative_to(root))] = (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime_ns, links, content)
    return found


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def opened(
    path: Path | str | bytes, flags: int = os.O_RDONLY, mode: int = 0o666, dir_fd: int | None = None
) -> Iterator[int]:
    descriptor = os.open(path, flags, mode, dir_fd=dir_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def working_directory(path: Path | str | int) -> Iterator[None]:
    with opened(".", os.O_RDONLY | os.O_DIRECTORY) as before:
        os.chdir(path)
        try:
            yield
        finally:
            os.fchdir(before)


def run(
    *command: str | Path,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    check: bool = True,
    standard_input: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> subprocess.CompletedProcess[str]:
    """A command run to its end; a failure shows what it said."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        input=standard_input,
        stdin=subprocess.DEVNULL if standard_input is None else None,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=timeout,
        check=False,
    )
    if check:
        assert result.returncode == 0, (
            f"{command}: exit {result.returncode}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
        )
    return result


def tool(name: str) -> str:
    """The path of a tool, or a skip that says which one is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"the tool '{name}' is not installed")
    return path


class Child:
    """A Python child process with pipes; ended and reaped however its test ends."""

    def __init__(self, source: str, *arguments: str | Path, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", source, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=cwd,
            text=True,
        )

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def finish(self) -> str:
        """Wait for its end, which must be a success; the rest of its output."""
        output, _ = self.process.communicate(timeout=TIMEOUT_SECONDS)
        assert self.process.returncode == 0, f"a child process ended with {self.process.returncode}"
        return output

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def checked(result: int, path: bytes | str | Path = "") -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    return result


def rename_with(source: Path | bytes, target: Path | bytes, flags: int) -> None:
    checked(libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags), source)


def link_open_file(descriptor: int, target: Path) -> None:
    """linkat of an open file by its descriptor, the way a file without a name gets one."""
    source = f"/proc/self/fd/{descriptor}".encode()
    checked(libc.linkat(AT_FDCWD, source, AT_FDCWD, os.fsencode(target), AT_SYMLINK_FOLLOW), target)


class Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def set_times(path: Path, access: tuple[int, int], modification: tuple[int, int], flags: int = 0) -> None:
    """utimensat with (seconds, nanoseconds), where UTIME_NOW and UTIME_OMIT may stand for nanoseconds."""
    times = (Timespec * 2)(Timespec(*access), Timespec(*modification))
    checked(libc.utimensat(AT_FDCWD, os.fsencode(path), times, flags), path)


class Times(NamedTuple):
    access: int
    modification: int
    change: int


def times(path: Path | int) -> Times:
    status = os.stat(path) if isinstance(path, int) else os.lstat(path)
    return Times(status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)


def changed(path: Path | int, action: Callable[[], object]) -> set[str]:
    """Which of modification and change time an action moves forward; they may never go back."""
    before = times(path)
    time.sleep(CLOCK_TICK_SECONDS)
    action()
    after = times(path)
    assert after.change >= before.change
    return {name for name in ("modification", "change") if getattr(after, name) > getattr(before, name)}


class Entry(NamedTuple):
    name: bytes
    ino: int
    kind: int
    position: int  # telldir after this entry


class _Dirent(ctypes.Structure):
    _fields_ = (
        ("ino", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("length", ctypes.c_uint16),
        ("kind", ctypes.c_uint8),
        ("name", ctypes.c_char * 256),
    )


libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(_Dirent)
libc.readdir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.telldir.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
libc.rewinddir.argtypes = [ctypes.c_void_p]
libc.closedir.argtypes = [ctypes.c_void_p]


class DirectoryStream:
    """opendir, readdir, telldir, seekdir and rewinddir as C programs use them."""

    def __init__(self, path: Path) -> None:
        self._stream = libc.opendir(os.fsencode(path))
        if not self._stream:
            checked(-1, path)

    def read(self) -> Entry | None:
        ctypes.set_errno(0)
        entry = libc.readdir(self._stream)
        if not entry:
            code = ctypes.get_errno()
            if code:
                raise OSError(code, os.strerror(code))
            return None
        found = entry.contents
        return Entry(found.name, found.ino, found.kind, self.tell())

    def names(self) -> list[bytes]:
        """The names from here to the end, without '.' and '..'."""
        found = []
        while (entry := self.read()) is not None:
            if entry.name not in (b".", b".."):
                found.append(entry.name)
        return found

    def tell(self) -> int:
        return int(libc.telldir(self._stream))

    def seek(self, position: int) -> None:
        libc.seekdir(self._stream, position)

    def rewind(self) -> None:
        libc.rewinddir(self._stream)

    def __enter__(self) -> DirectoryStream:
        return self

    def __exit__(self, *_: object) -> None:
        libc.closedir(self._stream)
