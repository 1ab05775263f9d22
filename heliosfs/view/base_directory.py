"""The directory that a volume began with: read where it is until everything in it has been taken in; never written.

What a state says of a file there is its path, inode number, size, and the times of its last modification and change, as
they were when its directory was read. Bytes are returned only when all of this held before and after they were read: so
what is read is what was there then, or ESTALE.
"""

import errno
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from stat import S_ISDIR, S_ISLNK
from typing import Final, NamedTuple

import msgspec

from heliosfs.base.errors import Corruption, Refusal
from heliosfs.base.quoting import shown

XATTRS: Final = (b"user.", b"trusted.", b"security.")
_SELINUX: Final = b"security.selinux"
WANTED_MAX: Final = 10_000
CHANGED_MAX: Final = 1000
"""Paths that are remembered to be told."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, int, int, int, int]).decode


class Found(NamedTuple):
    """Something in a directory of the base. `source` says how it was; `links` is what a directory's link count is."""

    name: bytes
    stat: os.stat_result
    source: bytes
    xattrs: list[tuple[bytes, bytes]]
    target: bytes
    links: int


class BaseDirectory:
    """One such directory, opened."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.changed: dict[bytes, str] = {}
        """Why they cannot be read, by their paths."""
        self.wanted: deque[int] = deque()
        """Files that were read from here: they are taken in before others."""
        try:
            self._descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self._descriptor = -1
            self.changed[b"."] = str(error.strerror)

    def close(self) -> None:
        """Nothing is read any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def touched(self, ino: int) -> None:
        """Somebody reads this file."""
        if (not self.wanted or self.wanted[-1] != ino) and len(self.wanted) < WANTED_MAX:
            self.wanted.append(ino)

    def root(self) -> Found:
        """The directory itself."""
        with self._reading(b"."):
            descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._descriptor)
            try:
                stat = os.fstat(descriptor)
                return Found(b"", stat, _source(b".", stat), _xattrs(descriptor), b"", _links(descriptor))
            finally:
                os.close(descriptor)

    def read(self, source: bytes, offset: int, length: int) -> bytes:
        """Bytes of a file. ESTALE when it is not what it was, EACCES and the like when it cannot be read."""
        path, _, size, _, _ = _decoded(source)
        with self._reading(path):
            file = self._open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                self._check(source, path, file)
                data = os.pread(file, length, offset)
                self._check(source, path, file)
            finally:
                os.close(file)
            if len(data) != length or offset + length > size:
                raise self._stale(path, "it is shorter now")
            return data

    def list(self, source: bytes) -> list[Found]:
        """All that is in a directory. Refused in the same way."""
        path = _decoded(source)[0]
        with self._reading(path):
            directory = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._check(source, path, directory)
                found = [self._found(directory, path, os.fsencode(name)) for name in sorted(os.listdir(directory))]
                self._check(source, path, directory)
                return found
            finally:
                os.close(directory)

    def _found(self, directory: int, above: bytes, name: bytes) -> Found:
        path = name if above == b"." else above + b"/" + name
        stat = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if S_ISLNK(stat.st_mode):
            return Found(name, stat, b"", [], os.readlink(name, dir_fd=directory), 1)
        # Through /proc, since what cannot be opened has attributes too.
        xattrs = _xattrs(b"/proc/self/fd/%d/%b" % (directory, name))
        links = 1
        if S_ISDIR(stat.st_mode):
            links = 2
            try:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            except PermissionError:
                pass
            else:
                try:
                    links = _links(below)
                finally:
                    os.close(below)
        return Found(name, stat, _source(path, stat), xattrs, b"", links)

    def _open(self, path: bytes, flags: int) -> int:
        if self._descriptor < 0:
            raise self._stale(path, f"{shown(self.path)} is not there")
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._descriptor)

    def _check(self, source: bytes, path: bytes, descriptor: int) -> None:
        if _source(path, os.fstat(descriptor)) != source:
            raise self._stale(path, "it has changed")

    def _stale(self, path: bytes, why: str) -> Refusal:
        self._note(path, why)
        return Refusal(errno.ESTALE, f"{shown(path)} of the base {shown(self.path)} cannot be taken in: {why}")

    def _note(self, path: bytes, why: str) -> None:
        if len(self.changed) < CHANGED_MAX:
            self.changed[path] = why

    @contextmanager
    def _reading(self, path: bytes) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._stale(path, "it is gone") from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._stale(path, "it has changed") from error
            self._note(path, str(error.strerror))
            raise Refusal(error.errno or errno.EIO, f"{shown(path)} of the base: {error.strerror}") from error


def _source(path: bytes, stat: os.stat_result) -> bytes:
    return _encode((path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


def _decoded(source: bytes) -> tuple[bytes, int, int, int, int]:
    try:
        return _decode(source)
    except msgspec.MsgspecError as error:
        raise Corruption("extent", f"of a base: {error}") from error


def _links(directory: int) -> int:
    """The link count that a directory has: not every filesystem counts subdirectories."""
    with os.scandir(directory) as entries:
        return 2 + sum(entry.is_dir(follow_symlinks=False) for entry in entries)


def _xattrs(file: int | bytes) -> list[tuple[bytes, bytes]]:
    try:
        names = [os.fsencode(name) for name in os.listxattr(file)]
    except OSError:
        return []
    kept = [name for name in names if name.startswith(XATTRS) and name != _SELINUX]
    return [(name, os.getxattr(file, name)) for name in kept]
