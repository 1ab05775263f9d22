"""Taking in what another state of the same volume has: inodes under their own numbers, content where it lies.

No bytes are copied but those of objects that only memory knows so far: a journal record that named such an
object would outlive it in a crash.
"""

import errno
from collections.abc import Iterable
from stat import S_IFDIR, S_IFMT
from typing import NamedTuple

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.base.keys import ENTRY, EXTENT, FIRST_INO, LINK, SYMLINK, XATTR, link_suffix
from heliosfs.base.records import CHUNK, HOLE, Extent, InodeRecord, encode_inode, entry
from heliosfs.layers import stack
from heliosfs.layers.delta import FRESH, MADE, REMOVED, Change
from heliosfs.layers.extents import END
from heliosfs.layers.replay import WRITE, encode
from heliosfs.view.content import Content, read_extent
from heliosfs.view.inode import Inode
from heliosfs.view.names import Names


class Foreign(NamedTuple):
    """What another state has of an inode; the extents cover the file, holes included."""

    ino: int
    record: InodeRecord
    xattrs: dict[bytes, bytes]
    target: bytes = b""
    extents: Iterable[Extent] = ()


class Adoption(Names, Content):
    """The part of a view that takes in what other states have."""

    def adopt(self, parent: Inode, name: bytes, foreign: Foreign, *, renumber: bool = False) -> Inode:
        """Put an inode of another state here, with one name. A directory comes in empty.

        This tree must not have an inode of that number, unless it gets a new one (`renumber`).
        """
        self._check_place(parent, name)
        if self._entry(parent, name) is not None:
            raise Refusal(errno.EEXIST)
        is_directory = S_IFMT(foreign.record.mode) == S_IFDIR
        ino = self.engine.allocate_ino() if renumber else foreign.ino
        assert ino >= FIRST_INO and stack.find_inode(self.engine.tree, self.top, ino) is None
        inode = Inode(self._view(), ino)
        inode.decode(encode_inode(foreign.record))
        inode.nlink = 2 if is_directory else 1
        parent.nlink += is_directory
        parent.mtime = parent.ctime = inode.ctime = now()
        # The number may stand for something in a state below: that must not show through.
        changes: list[Change] = [(ino, FRESH, b"", MADE if renumber else REMOVED)]
        changes += [(ino, XATTR, key, value) for key, value in foreign.xattrs.items()]
        if inode.is_symlink:
            changes.append((ino, SYMLINK, b"", foreign.target))
        extents = [extent for extent in foreign.extents if extent[2] != HOLE]
        changes += self._extent_changes(ino, extents)
        changes.append((ino, LINK, link_suffix(parent.ino, name), b""))
        changes.append((parent.ino, ENTRY, name, entry(ino, inode.mode)))
        self._commit(changes, inode, parent)
        self.inodes[ino] = inode
        self._copy_pending(inode, extents)
        return inode

    def put_in(self, changes: list[Change], parents: list[Inode]) -> None:
        """Make new inodes, whose records and names `changes` holds, in directories that are here already."""
        self._check_writable()
        self._commit(changes, *parents)

    def leave_out(self, parents: list[Inode]) -> None:
        """What was to be put in is not: the directories are as they were."""
        self._reload(*parents)

    def put_content(self, inode: Inode, offset: int, data: bytes) -> None:
        """Put bytes into a part of a file where there are none, without a change of its times."""
        self._check_writable()
        if not data or inode.orphan is not None:
            return
        inode.allocated += len(data)
        inode.size = max(inode.size, offset + len(data))
        inode.attributes = None
        record = inode.encode()
        try:
            position = self.engine.journal.append(WRITE, encode((self.top.id, inode.ino, offset, record)), data)
        except OSError:
            self._reload(inode)
            raise
        self.top.write(inode.ino, record, offset, offset + len(data), position)

    def take_content(self, inode: Inode, foreign: Foreign, mtime: int) -> None:
        """Let a file have the bytes of another one. What both have from one source is left alone."""
        self._check_writable()
        assert inode.orphan is None
        size, old = foreign.record.size, inode.size
        changes: list[Change] = []
        if size < old:
            delta = self.top.deltas.get(inode.ino)
            hides_all = delta is not None and delta.fresh
            changes.append((inode.ino, EXTENT, size, None if hides_all else (END, HOLE, None, 0)))
        kept = min(size, old)
        present = set(stack.resolve(self.engine.tree, self.top, inode.ino, 0, kept)) if kept else set()
        extents = [
            extent for extent in foreign.extents if extent not in present and (extent[2] != HOLE or extent[0] < old)
        ]
        changes += self._extent_changes(inode.ino, extents)
        inode.size, inode.allocated = size, foreign.record.allocated
        inode.mtime, inode.ctime = mtime, now()
        self._commit(changes, inode)
        self._copy_pending(inode, extents)

    def _is_pending(self, extent: Extent) -> bool:
        source = extent[3]
        return extent[2] == CHUNK and isinstance(source, bytes) and self.engine.objects.is_pending(source)

    def _extent_changes(self, ino: int, extents: list[Extent]) -> list[Change]:
        return [
            (ino, EXTENT, start, (end, kind, source, skip))
            for start, end, kind, source, skip in extents
            if not self._is_pending((start, end, kind, source, skip))
        ]

    def _copy_pending(self, inode: Inode, extents: list[Extent]) -> None:
        """Put the bytes of objects that a crash would lose into the journal."""
        record = inode.encode()
        for extent in filter(self._is_pending, extents):
            start, end = extent[:2]
            header = encode((self.top.id, inode.ino, start, record))
            position = self.engine.journal.append(WRITE, header, bytes(read_extent(self.engine, extent)))
            self.top.write(inode.ino, record, start, end, position)
