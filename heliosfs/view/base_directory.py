"""The directory that a volume began with: read where it is until everything in it has been taken in; never written.

What a state says of a file there is its path, inode number, size, the times of its last modification and change, and
how many names it has if there are several, as they were when its directory was read. Bytes are returned only when all
of this held before and after they were read: so what is read is what was there then, or ESTALE.
"""

import errno
import os
from collections import deque
from collections.abc import Container, Generator, Iterator
from contextlib import contextmanager
from stat import S_ISDIR, S_ISLNK, S_ISREG
from time import perf_counter_ns
from typing import Final, NamedTuple

import msgspec

from heliosfs.base.errors import Corruption, Refusal
from heliosfs.base.quoting import shown

XATTRS: Final = (b"user.", b"trusted.", b"security.")
_SELINUX: Final = b"security.selinux"
WANTED_MAX: Final = 10_000
CHANGED_MAX: Final = 1000
"""Paths that are remembered to be told."""

PIECE_FILES: Final = 64
PIECE_NANOSECONDS: Final = 2_000_000
"""Of a directory so much is read at one time, whichever comes first: with what the engine does with it some 3 ms."""
DATA_PIECES_MAX: Final = 1000
"""A file with more holes has its last ones filled: looking for them takes time, which is not to be had here."""


class Source(msgspec.Struct, array_like=True, frozen=True):
    """What a state says of a file in the base, or of a directory that is still to be read. The last is left out if it
    is 1."""

    path: bytes
    ino: int
    size: int
    mtime: int
    ctime: int
    links: int = 1


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Source).decode


class Found(NamedTuple):
    """Something in a directory of the base. `source` says how it was; `links` is the link count of a directory; `data`
    are the parts of a file that are no holes."""

    name: bytes
    stat: os.stat_result
    source: bytes
    xattrs: list[tuple[bytes, bytes]]
    target: bytes = b""
    links: int = 1
    data: tuple[tuple[int, int], ...] = ()


class BaseDirectory:
    """One such directory, opened."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.changed: dict[bytes, str] = {}
        """Why they cannot be read, by their paths."""
        self.wanted: deque[int] = deque()
        """Files that were read from here: they are taken in before others."""
        self._counts: dict[int, bool] = {}
        """By device: whether the link count of a directory there says how many directories are in it."""
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

    def root(self, hidden: Container[bytes]) -> Found:
        """The directory itself, without what has one of these names in it."""
        with self._reading(b"."):
            descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._descriptor)
            try:
                stat = os.fstat(descriptor)
                return Found(b"", stat, _source(b".", stat), _xattrs(descriptor), links=_links(descriptor, hidden))
            finally:
                os.close(descriptor)

    def read(self, source: bytes, offset: int, length: int) -> bytes:
        """Bytes of a file. ESTALE when it is not what it was, EACCES and the like when it cannot be read."""
        was = decode_source(source)
        path, size = was.path, was.size
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

    def pieces(self, source: bytes, known: Container[bytes]) -> Generator[tuple[list[Found], bool], None, None]:
        """All that is in a directory but what is known, in pieces; with the last one True. Refused in the same way."""
        path = decode_source(source).path
        with self._reading(path):
            directory = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._check(source, path, directory)
                found: list[Found] = []
                until = perf_counter_ns() + PIECE_NANOSECONDS
                with os.scandir(directory) as entries:
                    for each in entries:
                        if len(found) == PIECE_FILES or perf_counter_ns() > until:
                            self._check(source, path, directory)
                            yield found, False
                            found, until = [], perf_counter_ns() + PIECE_NANOSECONDS
                        name = os.fsencode(each.name)
                        if name not in known:
                            found.append(self._found(directory, path, name))
                self._check(source, path, directory)
                yield found, True
            finally:
                os.close(directory)

    def _found(self, directory: int, above: bytes, name: bytes) -> Found:
        path = name if above == b"." else above + b"/" + name
        stat = os.stat(name, dir_fd=directory, follow_symlinks=False)
        source = _source(path, stat)
        if S_ISLNK(stat.st_mode):
            return Found(name, stat, source, [], os.readlink(name, dir_fd=directory))
        # Through /proc, since what cannot be opened has attributes too.
        xattrs = _xattrs(b"/proc/self/fd/%d/%b" % (directory, name))
        if S_ISDIR(stat.st_mode):
            return Found(name, stat, source, xattrs, links=self._links_below(directory, name, stat))
        if S_ISREG(stat.st_mode):
            return Found(name, stat, source, xattrs, data=_data(directory, name, stat))
        return Found(name, stat, source, xattrs)

    def _links_below(self, above: int, name: bytes, stat: os.stat_result) -> int:
        """The link count of a directory in another one."""
        if stat.st_nlink >= 2 and self._counts.get(stat.st_dev):
            return stat.st_nlink
        try:
            directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        except PermissionError:
            return 2
        try:
            links = _links(directory)
        finally:
            os.close(directory)
        if links > 2:
            self._counts.setdefault(stat.st_dev, links == stat.st_nlink)
        return links

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
    was = (path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    if stat.st_nlink == 1 or S_ISDIR(stat.st_mode):
        return _encode(was)
    return _encode((*was, stat.st_nlink))


def decode_source(source: bytes) -> Source:
    """What a record says of a file in the base."""
    try:
        return _decode(source)
    except msgspec.MsgspecError as error:
        raise Corruption("extent", f"of a base: {error}") from error


def _data(directory: int, name: bytes, stat: os.stat_result) -> tuple[tuple[int, int], ...]:
    """The parts of a file that are no holes."""
    size = stat.st_size
    whole = ((0, size),) if size else ()
    if stat.st_blocks * 512 >= size:
        return whole
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    except PermissionError:
        return whole
    found: list[tuple[int, int]] = []
    end = 0
    try:
        while end < size:
            start = os.lseek(file, end, os.SEEK_DATA)
            end = os.lseek(file, start, os.SEEK_HOLE) if len(found) < DATA_PIECES_MAX - 1 else size
            found.append((start, min(end, size)))
    except OSError as error:
        if error.errno != errno.ENXIO:
            return whole
    finally:
        os.close(file)
    return tuple(found)


def _links(directory: int, hidden: Container[bytes] = ()) -> int:
    """The link count that a directory has: not every filesystem counts subdirectories."""
    with os.scandir(directory) as entries:
        return 2 + sum(
            entry.is_dir(follow_symlinks=False) and os.fsencode(entry.name) not in hidden for entry in entries
        )


def _xattrs(file: int | bytes) -> list[tuple[bytes, bytes]]:
    try:
        names = [os.fsencode(name) for name in os.listxattr(file)]
    except OSError:
        return []
    kept = [name for name in names if name.startswith(XATTRS) and name != _SELINUX]
    return [(name, os.getxattr(file, name)) for name in kept]
