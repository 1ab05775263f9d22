"""Writing a state into a tar file with all that belongs to it, in the POSIX format (pax), which tar, bsdtar and
`heliosfs import` read.

Times are kept to the nanosecond, extended attributes as SCHILY.xattr, holes as GNU tar 1.0 does it, names as the bytes
that they are. A tar file cannot hold sockets: they are left out and named.
"""

import bz2
import gzip
import lzma
import os
import stat
import tarfile
from collections.abc import Iterator
from typing import IO, Final, cast

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown
from heliosfs.cli.copying import HOLE_BYTES, PIECE_BYTES, RESERVED, naming, xattrs

COMPRESSIONS: Final = {
    ".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tbz2": "bz2", ".tar.xz": "xz", ".txz": "xz",
}  # fmt: skip
"""By how the name of the tar file ends."""

_BLOCK_BYTES = 512
_TYPES = {
    stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE, stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE,
}  # fmt: skip


def compression(target: str) -> str | None:
    """How the tar file is compressed that a name stands for; None when it stands for a directory."""
    ending = next((ending for ending in COMPRESSIONS if target.endswith(ending)), None)
    return None if ending is None else COMPRESSIONS[ending]


class Archiver:
    """Writes, and counts what it has written. OSError when something cannot be read or written."""

    def __init__(self, stream: IO[bytes], compressed: str) -> None:
        self.files = 0
        self.bytes = 0
        self.left_out: list[bytes] = []
        self._links: dict[tuple[int, int], str] = {}
        self._stream = _compressing(stream, compressed)
        self._archive = tarfile.open(  # noqa: SIM115 (closed by `end`)
            fileobj=cast(IO[bytes], _Positioned(self._stream)), mode="w", format=tarfile.PAX_FORMAT,
            encoding="utf-8", errors="surrogateescape",
        )  # fmt: skip

    def end(self) -> None:
        """All is in."""
        self._archive.close()
        self._stream.close()

    def tree(self, source: bytes) -> None:
        """All that is in a directory, and its attributes."""
        self._add(source, b".", os.lstat(source))
        pending: list[tuple[bytes, bytes, Iterator[bytes]]] = [(source, b"", _names(source, RESERVED))]
        while pending:
            source, path, names = pending[-1]
            name = next(names, None)
            if name is None:
                pending.pop()
                continue
            below, inside = os.path.join(source, name), os.path.join(path, name)
            found = os.lstat(below)
            self.entry(below, inside, found)
            if stat.S_ISDIR(found.st_mode):
                pending.append((below, inside, _names(below)))

    def entry(self, source: bytes, name: bytes, found: os.stat_result) -> None:
        """One thing under a name."""
        if stat.S_IFMT(found.st_mode) not in _TYPES:
            self.left_out.append(name)
            return
        self.files += 1
        identity = (found.st_dev, found.st_ino)
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            if identity in self._links:
                link = self._header(name, found)
                link.type, link.linkname = tarfile.LNKTYPE, self._links[identity]
                self._archive.addfile(link)
                return
            self._links[identity] = os.fsdecode(name)
        self._add(source, name, found)

    def _header(self, name: bytes, found: os.stat_result) -> tarfile.TarInfo:
        header = tarfile.TarInfo(os.fsdecode(name))
        header.type = _TYPES[stat.S_IFMT(found.st_mode)]
        header.mode = stat.S_IMODE(found.st_mode)
        header.uid, header.gid = found.st_uid, found.st_gid
        header.mtime = found.st_mtime_ns // 1_000_000_000
        header.pax_headers = {"mtime": _seconds(found.st_mtime_ns), "atime": _seconds(found.st_atime_ns)}
        return header

    def _add(self, source: bytes, name: bytes, found: os.stat_result) -> None:
        header = self._header(name, found)
        headers = dict(header.pax_headers)
        for key, value in xattrs(source).items():
            try:
                headers["SCHILY.xattr." + key.decode()] = os.fsdecode(value)
            except UnicodeDecodeError:
                raise HeliosError(
                    f"{shown(name)} has an attribute {shown(key)}, whose name is no UTF-8: a tar file cannot hold that"
                ) from None
        header.pax_headers = headers
        if stat.S_ISLNK(found.st_mode):
            header.linkname = os.fsdecode(os.readlink(source))
        elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            header.devmajor, header.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
        elif stat.S_ISREG(found.st_mode):
            self._add_file(source, header, found)
            return
        self._archive.addfile(header)

    def _add_file(self, source: bytes, header: tarfile.TarInfo, found: os.stat_result) -> None:
        with open(source, "rb", buffering=0) as file:
            if found.st_blocks * _BLOCK_BYTES >= found.st_size:
                header.size = found.st_size
                self._archive.addfile(header, _Counted(self, file, source))
                return
            with naming(source):
                parts = list(_data(file, found.st_size))
            sparse = _map(parts, found.st_size)
            header.pax_headers = {
                **header.pax_headers, "GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                "GNU.sparse.name": header.name, "GNU.sparse.realsize": str(found.st_size),
            }  # fmt: skip
            header.name = f"GNUSparseFile.0/{self.files}"
            header.size = len(sparse) + sum(end - start for start, end in parts)
            self._archive.addfile(header, _Counted(self, _Sparse(file, sparse, parts), source))


def _compressing(stream: IO[bytes], how: str) -> IO[bytes]:
    """What is written goes into the stream, compressed; closing it leaves that open, unless it is that."""
    if how == "gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=stream, mode="wb"))
    if how == "bz2":
        return cast(IO[bytes], bz2.BZ2File(stream, "wb"))
    return cast(IO[bytes], lzma.LZMAFile(stream, "wb")) if how == "xz" else stream


class _Positioned:
    """A stream that tells how much was written to it, which a pipe does not. tarfile has such a thing (`w|`), but that
    writes on when it is forgotten, and the stream may have failed by then."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._written = 0

    def write(self, data: bytes) -> int:
        self._written += len(data)
        return self._stream.write(data)

    def tell(self) -> int:
        return self._written


class _Counted:
    """A file that is read, whose bytes are counted."""

    def __init__(self, archiver: Archiver, file: "IO[bytes] | _Sparse", path: bytes) -> None:
        self._archiver = archiver
        self._file = file
        self._path = path

    def read(self, size: int = 0) -> bytes:
        with naming(self._path):
            data = self._file.read(size)
        self._archiver.bytes += len(data)
        return data


class _Sparse:
    """The map of a sparse file, and then its data."""

    def __init__(self, file: IO[bytes], sparse: bytes, parts: list[tuple[int, int]]) -> None:
        self._file = file
        self._head = sparse
        self._parts = parts[::-1]

    def read(self, size: int = 0) -> bytes:
        """So many bytes; fewer only at the end."""
        found = [self._head[:size]]
        self._head = self._head[size:]
        size -= len(found[0])
        while size and self._parts:
            start, end = self._parts.pop()
            data = os.pread(self._file.fileno(), min(size, end - start), start)
            if not data:
                break
            if start + len(data) < end:
                self._parts.append((start + len(data), end))
            found.append(data)
            size -= len(data)
        return b"".join(found)


def _names(directory: bytes, without: tuple[bytes, ...] = ()) -> Iterator[bytes]:
    return iter(sorted(name for name in os.listdir(directory) if name not in without))


def _seconds(nanoseconds: int) -> str:
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    return f"{sign}{rest // 1_000_000_000}.{rest % 1_000_000_000:09}"


def _data(file: IO[bytes], size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are not zeros by the page."""
    begin = -1
    for offset in range(0, size, PIECE_BYTES):
        data = memoryview(os.pread(file.fileno(), PIECE_BYTES, offset))
        for start in range(0, len(data), HOLE_BYTES):
            is_hole = not any(data[start : start + HOLE_BYTES])
            if is_hole and begin >= 0:
                yield begin, offset + start
                begin = -1
            elif not is_hole and begin < 0:
                begin = offset + start
    if begin >= 0:
        yield begin, size


def _map(parts: list[tuple[int, int]], size: int) -> bytes:
    """Which parts of a sparse file follow: how many, then offset and length of each, one a line."""
    pairs = [(start, end - start) for start, end in parts]
    if not parts or parts[-1][1] < size:
        pairs.append((size, 0))
    text = b"".join(b"%d\n" % number for number in (len(pairs), *(number for pair in pairs for number in pair)))
    return text + bytes(-len(text) % _BLOCK_BYTES)
