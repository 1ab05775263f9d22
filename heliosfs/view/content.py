"""The bytes of files: reading, writing, truncating.

Invariants:
  1. No extent says anything of bytes at or beyond a file's size, except holes.
  2. `allocated` is the number of bytes of a file that are not in holes.
  3. Bytes that do not check are never returned: the read fails with `Corruption`.
"""

import errno
from stat import S_IFMT, S_IFREG, S_ISGID, S_ISUID, S_IXGRP

from heliosfs.base.clock import now
from heliosfs.base.errors import Corruption, Refusal
from heliosfs.base.keys import EXTENT, XATTR
from heliosfs.base.limits import FILE_BYTES_MAX
from heliosfs.base.records import BASE, CHUNK, HOLE, INLINE, WRITTEN, Extent
from heliosfs.layers import stack
from heliosfs.layers.delta import Change
from heliosfs.layers.extents import END
from heliosfs.layers.replay import ORPHAN, WRITE, encode
from heliosfs.view.engine import Engine
from heliosfs.view.inode import Inode
from heliosfs.view.inodes import Inodes

CAPABILITY = b"security.capability"
"""The extended attribute with a program's file capabilities: a change of the content takes it away."""


KEEP, STRIP, STRIP_GROUP = 0, 1, 2
"""What a change of content or owner does to set-id bits and capabilities. Mostly nothing when root makes it, and when
others do it takes them away, but for a set-group-id bit without execution by the group: that one goes only when whoever
makes the change is not in the group."""


def read_extent(engine: Engine, extent: Extent) -> bytes | memoryview:
    """The bytes of one extent."""
    start, end, kind, source, skip = extent
    length = end - start
    if kind == HOLE:
        return bytes(length)
    data: bytes | memoryview
    if kind == CHUNK:
        assert isinstance(source, bytes)
        data = engine.objects.get(source)
    elif kind == WRITTEN:
        assert isinstance(source, int)
        data = engine.journal.read(source)
    elif kind == BASE:
        assert isinstance(source, bytes)
        if engine.base is None:
            raise Corruption("extent", "a base that the volume does not have")
        return engine.base.read(source, skip, length)
    else:
        assert kind == INLINE and isinstance(source, bytes)
        data = source
    if len(data) < skip + length:
        raise Corruption("extent", f"a source of {len(data)} bytes where {skip + length} are needed")
    if skip == 0 and len(data) == length:
        return data
    return memoryview(data)[skip : skip + length]


class Content(Inodes):
    """The part of a view that deals with the content of files."""

    def read(self, inode: Inode, offset: int, size: int) -> bytes | memoryview:
        """Up to `size` bytes from `offset` on; fewer only at the end of the file."""
        end = min(offset + size, inode.size)
        if end <= offset:
            return b""
        extents = stack.resolve(self.engine.tree, self._layer(inode), inode.ino, offset, end)
        if self.engine.base is not None and any(extent[2] == BASE for extent in extents):
            self.engine.base.touched(inode.ino)
        if len(extents) == 1:
            return read_extent(self.engine, extents[0])
        return b"".join([read_extent(self.engine, extent) for extent in extents])

    def write(self, inode: Inode, offset: int, data: bytes, strip_privileges: int = KEEP) -> int:
        """Put bytes at `offset`; how many. They are in the journal when this returns."""
        self._check_writable()
        if S_IFMT(inode.mode) != S_IFREG:
            raise Refusal(errno.EINVAL)
        length = len(data)
        if not length:
            return 0
        end = offset + length
        if end > FILE_BYTES_MAX:
            raise Refusal(errno.EFBIG)
        if strip_privileges:
            self._strip_privileges(inode, strip_privileges)
        size = inode.size
        if offset >= size:
            inode.allocated += length
            inode.size = end
        else:
            added = self._newly_allocated(inode, offset, end)
            inode.allocated += added
            self.engine.dropped_bytes += length - added
            if end > size:
                inode.size = end
        inode.mtime = inode.ctime = now()
        inode.attributes = None
        record = inode.encode()
        journal = self.engine.journal
        orphan = inode.orphan
        try:
            if orphan is None:
                top = self.top
                position = journal.append(WRITE, encode((top.id, inode.ino, offset, record)), data)
                top.write(inode.ino, record, offset, end, position)
            else:
                orphan.write(inode.ino, record, offset, end, journal.append(ORPHAN, b"", data))
        except OSError:
            self._reload(inode)
            raise
        return length

    def _newly_allocated(self, inode: Inode, start: int, end: int) -> int:
        """How many bytes of [start, end) are in holes or beyond the end of the file."""
        size = inode.size
        beyond = max(0, end - size)
        if inode.allocated == size:
            return beyond
        return beyond + self._holes(inode, start, min(end, size))

    def _holes(self, inode: Inode, start: int, end: int) -> int:
        if start >= end:
            return 0
        extents = stack.resolve(self.engine.tree, self._layer(inode), inode.ino, start, end)
        return sum(high - low for low, high, kind, _, _ in extents if kind == HOLE)

    def data_ranges(self, inode: Inode) -> list[tuple[int, int]]:
        """The parts of a file that are not holes, adjacent ones joined."""
        ranges: list[tuple[int, int]] = []
        if inode.size:
            for low, high, kind, _, _ in stack.resolve(
                self.engine.tree, self._layer(inode), inode.ino, 0, inode.size
            ):
                if kind == HOLE:
                    continue
                if ranges and ranges[-1][1] == low:
                    ranges[-1] = (ranges[-1][0], high)
                else:
                    ranges.append((low, high))
        return ranges

    def closed(self, inode: Inode) -> None:
        """The last writer has closed a file: it may be cut."""
        if inode.orphan is None and inode.ino in self.top.uncut:
            self.engine.closed.append((self.top, inode.ino))

    def _strip_privileges(self, inode: Inode, strip: int) -> None:
        """Take set-id bits and file capabilities away, as STRIP or STRIP_GROUP say."""
        mode = inode.mode & ~S_ISUID
        if mode & S_IXGRP or strip == STRIP_GROUP:
            mode &= ~S_ISGID
        changes: list[Change] = []
        if stack.find_xattr(self.engine.tree, self._layer(inode), inode.ino, CAPABILITY) is not None:
            changes.append((inode.ino, XATTR, CAPABILITY, None))
        if mode == inode.mode and not changes:
            return
        inode.mode = mode
        self._change(inode, changes)

    def _change(self, inode: Inode, changes: list[Change], freeing: bool = False) -> None:
        """Commit changes of one inode, which may be an orphan."""
        if inode.orphan is None:
            self._commit(changes, inode, freeing=freeing)
        else:
            self._commit_orphan(inode, changes)

    def _truncation(self, inode: Inode, size: int) -> list[Change]:
        """What a new size changes besides the inode record; sets size and allocated."""
        old = inode.size
        if size > FILE_BYTES_MAX:
            raise Refusal(errno.EFBIG)
        changes: list[Change] = []
        if size < old:
            if inode.ino not in self._layer(inode).uncut:
                self.engine.dropped_bytes += min(old - size, inode.allocated)
            if inode.allocated == old:
                inode.allocated = size
            else:
                inode.allocated = size - self._holes(inode, 0, size)
            delta = self._layer(inode).deltas.get(inode.ino)
            hides_all = delta is not None and delta.fresh
            changes.append((inode.ino, EXTENT, size, None if hides_all else (END, HOLE, None, 0)))
        inode.size = size
        return changes
