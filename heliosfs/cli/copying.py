"""Copying files out of a mount with all that belongs to them: attributes, hard links, holes, extended attributes.

Owners are kept for root alone; what then belongs to another user loses its set-id bits.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown

PIECE_BYTES = 1 << 20
HOLE_BYTES = 4096
"""Zeros of this size become holes, in files that have holes."""

RESERVED = (b".snapshots", b".branches", b".heliosfs")
"""In the root of a tree, where a mount option may list them."""
_OWN_ATTRIBUTES = b"user.heliosfs."
"""Made up by the mount, not part of the file."""


@contextmanager
def naming(path: str | bytes) -> Iterator[None]:
    """What fails with a file that is open fails with its name."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, path) from error


class Copier:
    """Copies, and counts what it copied. OSError when something cannot be read or written."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self._links: dict[tuple[int, int], bytes] = {}
        self._is_root = os.geteuid() == 0

    def tree(self, source: bytes, target: bytes) -> None:
        """All that is in a directory, and its attributes, into an empty one."""
        pending: list[tuple[bytes, bytes, Iterator[bytes]]] = [(source, target, self._names(source, RESERVED))]
        while pending:
            source, target, names = pending[-1]
            name = next(names, None)
            if name is None:
                pending.pop()
                self.attributes(source, target, os.lstat(source))
                continue
            below, copy = os.path.join(source, name), os.path.join(target, name)
            found = os.lstat(below)
            if stat.S_ISDIR(found.st_mode):
                os.mkdir(copy, 0o700)
                self.files += 1
                pending.append((below, copy, self._names(below)))
            else:
                self.entry(below, copy, found)

    @staticmethod
    def _names(directory: bytes, without: tuple[bytes, ...] = ()) -> Iterator[bytes]:
        return iter(sorted(name for name in os.listdir(directory) if name not in without))

    def entry(self, source: bytes, target: bytes, found: os.stat_result) -> None:
        """One thing that is no directory, to a name that is free."""
        self.files += 1
        identity = (found.st_dev, found.st_ino)
        if found.st_nlink > 1 and identity in self._links:
            os.link(self._links[identity], target, follow_symlinks=False)
            return
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(source), target)
        elif stat.S_ISREG(found.st_mode):
            self._content(source, target, found.st_blocks * 512 < found.st_size)
        else:
            os.mknod(target, stat.S_IFMT(found.st_mode) | 0o600, found.st_rdev)
        self.attributes(source, target, found)
        if found.st_nlink > 1:
            self._links[identity] = target

    def moved(self, found: os.stat_result, target: bytes) -> None:
        """What was copied has another name now, for links to it."""
        identity = (found.st_dev, found.st_ino)
        if identity in self._links:
            self._links[identity] = target

    def _content(self, source: bytes, target: bytes, sparse: bool) -> None:
        with open(source, "rb", buffering=0) as reader:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            writer = os.open(target, flags, 0o600)
            try:
                offset = 0
                while data := _read(reader, source):
                    with naming(target):
                        _write(writer, data, offset, sparse)
                    offset += len(data)
                    self.bytes += len(data)
                if sparse:
                    with naming(target):
                        os.ftruncate(writer, offset)
            finally:
                os.close(writer)

    def attributes(self, source: bytes, target: bytes, found: os.stat_result) -> None:
        """Owner, mode, extended attributes and times, in the order in which none undoes another."""
        mode = stat.S_IMODE(found.st_mode)
        if self._is_root:
            os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
        elif found.st_uid != os.geteuid() and not stat.S_ISDIR(found.st_mode):
            mode &= ~(stat.S_ISUID | stat.S_ISGID)
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(target, mode)
        self._attributes(source, target)
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)

    def _attributes(self, source: bytes, target: bytes) -> None:
        wanted = xattrs(source)
        for name in xattrs(target).keys() - wanted.keys():
            os.removexattr(target, name, follow_symlinks=False)
        for name, value in wanted.items():
            try:
                os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as error:
                if self._is_root or error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                    raise HeliosError(f"{shown(target)}: attribute {shown(name)}: {error.strerror}") from error


def xattrs(path: bytes) -> dict[bytes, bytes]:
    """The extended attributes of a file that are its own, SELinux's label aside."""
    try:
        names = map(os.fsencode, os.listxattr(path, follow_symlinks=False))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return {}
        raise
    kept = [name for name in names if not name.startswith(_OWN_ATTRIBUTES) and name != b"security.selinux"]
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in kept}


def _read(reader: FileIO, source: bytes) -> bytes:
    with naming(source):
        return reader.read(PIECE_BYTES)


def _write(writer: int, data: bytes, offset: int, sparse: bool) -> None:
    step = HOLE_BYTES if sparse else len(data)
    for start in range(0, len(data), step):
        piece = memoryview(data)[start : start + step]
        if sparse and not any(piece):
            continue
        at = offset + start
        while piece:
            written = os.pwrite(writer, piece, at)
            at, piece = at + written, piece[written:]
