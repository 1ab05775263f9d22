"""Reading what is to be imported: a directory or a tar file, as items in batches. It runs in a worker thread.

Directories are numbered in the order in which they come; 0 is the one into which all goes. What is read is reached
through the descriptor that was handed over and no symbolic link is followed, so nothing else can be.
"""

import errno
import lzma
import os
import tarfile
import zlib
from collections.abc import Generator, Iterator
from decimal import Decimal
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG
from typing import IO, Any, NamedTuple, cast

from heliosfs.base.errors import Refusal
from heliosfs.base.quoting import shown

BATCH_FILES = 128
BATCH_BYTES = 4 << 20
"""What one batch holds at most: the engine takes it in within a few ms, in several steps."""
PIECE_BYTES = 1 << 20
"""A larger file comes in pieces."""

XATTRS = (b"user.", b"trusted.", b"security.")
"""The attributes that are read; access control lists only where they mean something."""
_SELINUX = b"security.selinux"
_TAR_XATTR = "SCHILY.xattr."
_TAR_TYPES = {
    tarfile.REGTYPE: S_IFREG, tarfile.AREGTYPE: S_IFREG, tarfile.CONTTYPE: S_IFREG, tarfile.GNUTYPE_SPARSE: S_IFREG,
    tarfile.DIRTYPE: S_IFDIR, tarfile.SYMTYPE: S_IFLNK, tarfile.FIFOTYPE: S_IFIFO, tarfile.CHRTYPE: S_IFCHR,
    tarfile.BLKTYPE: S_IFBLK,
}  # fmt: skip


class Item(NamedTuple):
    """A file with its first pieces; or with an empty name more pieces of the file before, or, when it has a mode, the
    attributes of the source itself."""

    directory: int
    name: bytes
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    atime: int = 0
    mtime: int = 0
    rdev: int = 0
    target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    pieces: tuple[tuple[int, bytes], ...] = ()
    number: int = 0
    """Of a directory."""
    same_as: object = None
    """Equal for all names of one file that has several."""
    again: bool = False
    """The same name came before, and this one counts: tar files may be appended to."""


Batch = list[Item]


def batches(items: Iterator[Item]) -> Generator[Batch, None, None]:
    """Items in bounded batches."""
    batch: Batch = []
    held = 0
    for item in items:
        batch.append(item)
        held += sum(len(data) for _, data in item.pieces)
        if len(batch) >= BATCH_FILES or held >= BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def top_names(descriptor: int) -> list[bytes]:
    """The names in a directory."""
    return sorted(map(os.fsencode, os.listdir(descriptor)))


def read_directory(descriptor: int, forbidden_device: int, xattrs: tuple[bytes, ...] = XATTRS) -> Iterator[Item]:
    """All that is in a directory. Refused when it holds the filesystem of that device."""
    count = 0
    levels: list[tuple[int, int, bytes, Iterator[bytes]]] = []
    reader = _Directory(forbidden_device, xattrs)
    try:
        root = os.dup(descriptor)
        levels.append((root, 0, b"", iter(top_names(root))))
        while levels:
            above, number, path, names = levels[-1]
            name = next(names, None)
            if name is None:
                os.close(above)
                levels.pop()
                continue
            below = path + b"/" + name if path else name
            try:
                item, child = reader.read(above, number, name, below, count + 1)
                yield item
                if child >= 0:
                    count += 1
                    levels.append((child, count, below, iter(top_names(child))))
                elif S_IFMT(item.mode) == S_IFREG and item.pieces and item.size > PIECE_BYTES:
                    yield from _rest(above, number, name, item)
            except OSError as error:
                raise _unreadable(below, error) from error
        yield reader.itself(descriptor)
    finally:
        for above, _, _, _ in levels:
            os.close(above)


def _unreadable(path: bytes, error: OSError) -> Refusal:
    return Refusal(error.errno or errno.EIO, f"{shown(path)} cannot be read: {error.strerror}")


class _Directory:
    """Reads single files of a directory tree."""

    def __init__(self, forbidden_device: int, xattrs: tuple[bytes, ...]) -> None:
        self._forbidden = forbidden_device
        self._xattr_names = xattrs

    def read(self, above: int, directory: int, name: bytes, path: bytes, number: int) -> tuple[Item, int]:
        """An item, and of a directory the descriptor, else -1."""
        stat = os.stat(name, dir_fd=above, follow_symlinks=False)
        kind = S_IFMT(stat.st_mode)
        if stat.st_dev == self._forbidden:
            raise Refusal(errno.EINVAL, f"the source has the mount itself in it, at {shown(path)}")
        item = _item(directory, name, stat)
        if stat.st_nlink > 1 and kind != S_IFDIR:
            item = item._replace(same_as=(stat.st_dev, stat.st_ino))
        if kind == S_IFLNK:
            return item._replace(target=os.readlink(name, dir_fd=above)), -1
        if kind == S_IFDIR:
            child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            return item._replace(number=number, xattrs=self._xattrs(child)), child
        if kind != S_IFREG:
            return item, -1
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=above)
        try:
            first = tuple(_pieces(file, 0, min(stat.st_size, PIECE_BYTES), _is_sparse(stat)))
            size = stat.st_size
            if size <= PIECE_BYTES:
                # What was read counts: it may have become shorter meanwhile.
                whole = _is_sparse(stat) or not first
                size = size if whole else first[-1][0] + len(first[-1][1])
            elif not first:
                first = ((0, b""),)
            return item._replace(size=size, xattrs=self._xattrs(file), pieces=first), -1
        finally:
            os.close(file)

    def itself(self, descriptor: int) -> Item:
        """The attributes of the source."""
        stat = os.fstat(descriptor)
        if stat.st_dev == self._forbidden:
            raise Refusal(errno.EINVAL, "the source is in the mount itself")
        return _item(0, b"", stat)._replace(xattrs=self._xattrs(descriptor))

    def _xattrs(self, file: int) -> tuple[tuple[bytes, bytes], ...]:
        try:
            names = os.listxattr(file)
        except OSError:
            return ()
        found = [(os.fsencode(name), os.getxattr(file, name)) for name in names] if names else []
        return tuple((name, value) for name, value in found if name.startswith(self._xattr_names) and name != _SELINUX)


def _item(directory: int, name: bytes, stat: os.stat_result) -> Item:
    return Item(
        directory, name, stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size, stat.st_atime_ns, stat.st_mtime_ns,
        stat.st_rdev,
    )  # fmt: skip


def _is_sparse(stat: os.stat_result) -> bool:
    return stat.st_blocks << 9 < stat.st_size


def _rest(above: int, directory: int, name: bytes, item: Item) -> Iterator[Item]:
    """The pieces of a large file after the first."""
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        sparse = _is_sparse(os.fstat(file))
        for offset in range(PIECE_BYTES, item.size, PIECE_BYTES):
            end = min(offset + PIECE_BYTES, item.size)
            pieces = tuple(_pieces(file, offset, end, sparse))
            if pieces:
                yield Item(directory, b"", size=item.size, pieces=pieces)
    finally:
        os.close(file)


def _pieces(file: int, start: int, end: int, sparse: bool) -> Iterator[tuple[int, bytes]]:
    """The bytes of a part of a file, without its holes."""
    at = start
    while at < end:
        if sparse:
            try:
                at = os.lseek(file, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            if at >= end:
                return
            stop = min(end, os.lseek(file, at, os.SEEK_HOLE))
        else:
            stop = end
        data = os.pread(file, stop - at, at)
        if not data:
            return
        yield at, data
        at += len(data)


def read_tar(stream: IO[bytes], xattrs: tuple[bytes, ...] = XATTRS) -> Iterator[Item]:
    """All that is in a tar file, compressed or not. Refused when it is none, or has names that lead out of it."""
    try:
        with stream, tarfile.open(fileobj=stream, mode="r|*", errors="surrogateescape") as archive:
            yield from _Archive(archive, xattrs).items()
    except tarfile.ReadError as error:
        raise Refusal(errno.EINVAL, f"the source is no tar file, or a damaged one: {error}") from error
    except tarfile.TarError as error:
        raise Refusal(errno.EINVAL, f"the tar file cannot be read: {error}") from error
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise Refusal(errno.EINVAL, f"the tar file is damaged: {error}") from error
    except OSError as error:
        raise Refusal(error.errno or errno.EIO, f"the tar file cannot be read: {error}") from error


class _Archive:
    """One tar file on its way."""

    def __init__(self, archive: tarfile.TarFile, xattrs: tuple[bytes, ...]) -> None:
        self._archive = archive
        self._xattrs = xattrs
        self._numbers: dict[bytes, int] = {b"": 0}
        self._files: dict[bytes, int] = {}
        """Path -> the number of the entry that is that file."""
        self._count = 0

    def items(self) -> Iterator[Item]:
        for member in self._archive:
            path = _clean(member.name)
            yield from self._directories(path.rpartition(b"/")[0])
            if not path and not member.isdir():
                raise Refusal(errno.EINVAL, f"the tar file has a file without a name: {shown(member.name)}")
            if member.islnk():
                yield self._link(member, path)
            elif member.type not in _TAR_TYPES:
                raise Refusal(errno.EINVAL, f"{shown(path)}: a tar entry of the type {member.type!r} is not known")
            elif not member.isdir() or path not in self._numbers:
                yield from self._file(member, path)
            elif not path:
                yield self._item(member, path)

    def _directories(self, path: bytes) -> Iterator[Item]:
        """Those on the way to an entry that have no entry of their own."""
        if path in self._numbers:
            return
        above, _, name = path.rpartition(b"/")
        yield from self._directories(above)
        self._numbers[path] = len(self._numbers)
        yield Item(self._numbers[above], name, S_IFDIR | 0o755, number=self._numbers[path])

    def _link(self, member: tarfile.TarInfo, path: bytes) -> Item:
        above, _, name = path.rpartition(b"/")
        first = _clean(member.linkname)
        if first not in self._files:
            known = f"{shown(first)}, which is not in the tar file before it"
            raise Refusal(errno.EINVAL, f"{shown(path)} is a link to {known}")
        again = path in self._files
        self._files[path] = self._files[first]
        return Item(self._numbers[above], name, S_IFREG, same_as=self._files[first], again=again)

    def _item(self, member: tarfile.TarInfo, path: bytes) -> Item:
        above, _, name = path.rpartition(b"/")
        headers = member.pax_headers
        mtime = int(Decimal(headers.get("mtime", member.mtime)) * 1_000_000_000)
        atime = int(Decimal(headers["atime"]) * 1_000_000_000) if "atime" in headers else mtime
        rdev = os.makedev(member.devmajor, member.devminor) if member.ischr() or member.isblk() else 0
        found = [
            (os.fsencode(key[len(_TAR_XATTR) :]), os.fsencode(value))
            for key, value in headers.items()
            if key.startswith(_TAR_XATTR)
        ]
        xattrs = tuple(pair for pair in found if pair[0].startswith(self._xattrs) and pair[0] != _SELINUX)
        return Item(
            self._numbers[above], name, _TAR_TYPES[member.type] | member.mode & 0o7777, member.uid, member.gid,
            member.size if member.isreg() else 0, atime, mtime, rdev, xattrs=xattrs,
        )  # fmt: skip

    def _file(self, member: tarfile.TarInfo, path: bytes) -> Iterator[Item]:
        item = self._item(member, path)
        if member.isdir():
            self._numbers[path] = len(self._numbers)
            yield item._replace(number=self._numbers[path])
            return
        self._count += 1
        item = item._replace(same_as=self._count, again=path in self._files)
        self._files[path] = self._count
        if member.issym():
            yield item._replace(target=os.fsencode(member.linkname))
        elif not member.isreg():
            yield item
        else:
            yield from self._content(member, item)

    def _content(self, member: tarfile.TarInfo, item: Item) -> Iterator[Item]:
        file = self._archive.extractfile(member)
        assert file is not None
        if member.sparse:
            yield from self._parts(cast(Any, file).raw, cast(list[tuple[int, int]], member.sparse), item)
            return
        offset = 0
        while True:
            data = file.read(PIECE_BYTES)
            pieces = ((offset, data),) if data else ()
            if not offset:
                yield item._replace(pieces=pieces)
            elif pieces:
                yield Item(item.directory, b"", size=item.size, pieces=pieces)
            offset += len(data)
            if not data or offset >= member.size:
                return


    @staticmethod
    def _parts(file: IO[bytes], parts: list[tuple[int, int]], item: Item) -> Iterator[Item]:
        """The parts of a file that has holes. Its buffer is passed over: it would look for what a stream does not
        have."""
        yield item
        for start, size in parts:
            for offset in range(start, start + size, PIECE_BYTES):
                file.seek(offset)
                data = file.read(min(PIECE_BYTES, start + size - offset))
                yield Item(item.directory, b"", size=item.size, pieces=((offset, data),))


def _clean(name: str) -> bytes:
    parts = [part for part in os.fsencode(name).split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise Refusal(errno.EINVAL, f"the tar file has an entry that leads out of it: {shown(name)}")
    return b"/".join(parts)
