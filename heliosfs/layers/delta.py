"""What one layer says of one inode.

Invariants:
  1. `fresh` means that nothing below this layer counts for the inode: it was made here, or removed here.
     A removed inode is a fresh delta without an inode record. `made` says that there is nothing below
     anyway, because the number was first given out in this layer.
  2. A value of None is a tombstone: the record is gone, whatever lies below.
"""

from collections.abc import Iterator
from stat import S_IFDIR, S_IFMT
from typing import Final

from heliosfs.base.errors import Corruption
from heliosfs.base.keys import ENTRY, EXTENT, INODE, LINK, OFFSET_BYTES, SYMLINK, XATTR
from heliosfs.base.records import Source, decode_entry, decode_extent, decode_inode, encode_entry, encode_extent
from heliosfs.layers.extents import ExtentMap

FRESH: Final = 0
"""A kind that only layers have: "nothing below counts". Not a key of a tree."""
REMOVED: Final = 0
MADE: Final = 1

Value = bytes | int | tuple[int, int, Source, int] | None
Change = tuple[int, int, bytes | int, Value]
"""(inode number, kind, suffix, value): one record that an operation put. The value is an integer for ENTRY
(see `records.entry`), (end, kind, source, skip) for EXTENT, whose suffix is the start, MADE or REMOVED
for FRESH, bytes otherwise, None to remove (for EXTENT: everything from the start on; in fresh deltas only,
where no hole is needed to hide what lies below)."""


class Delta:
    """The records of one inode in one layer."""

    __slots__ = ("entries", "extents", "fresh", "inode", "links", "made", "stored", "symlink", "xattrs")

    def __init__(self) -> None:
        self.inode: bytes | None = None
        self.fresh = False
        self.made = False
        self.stored = False
        """The database may hold records of this inode in this layer."""
        self.entries: dict[bytes, int | None] | None = None
        self.links: dict[bytes, bytes | None] | None = None
        self.xattrs: dict[bytes, bytes | None] | None = None
        self.symlink: bytes | None = None
        self.extents: ExtentMap | None = None

    def put(self, kind: int, suffix: bytes | int, value: Value) -> None:
        """Take one record in."""
        if kind == INODE:
            self.inode = value  # type: ignore[assignment]
        elif kind == ENTRY:
            if self.entries is None:
                self.entries = {}
            self.entries[suffix] = value  # type: ignore[index,assignment]
        elif kind == LINK:
            if self.links is None:
                self.links = {}
            self.links[suffix] = value  # type: ignore[index,assignment]
        elif kind == EXTENT:
            if self.extents is None:
                self.extents = ExtentMap()
            if value is None:
                self.extents.forget(suffix)  # type: ignore[arg-type]
            else:
                self.extents.set(suffix, *value)  # type: ignore[misc,arg-type]
        elif kind == XATTR:
            if self.xattrs is None:
                self.xattrs = {}
            self.xattrs[suffix] = value  # type: ignore[index,assignment]
        elif kind == SYMLINK:
            self.symlink = value  # type: ignore[assignment]
        elif kind == FRESH:
            self.clear()
            self.fresh = True
            self.made = value == MADE
        else:
            raise Corruption("layer record", f"unknown kind {kind}")

    def clear(self) -> None:
        """Forget every record."""
        self.inode = self.symlink = None
        self.entries = self.links = self.xattrs = None
        self.extents = None

    def records(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        """(kind, suffix, stored value or None for a tombstone) of everything here, FRESH first."""
        if self.fresh:
            yield FRESH, b"", bytes((MADE if self.made else REMOVED,))
        if self.inode is not None:
            yield INODE, b"", self.inode
        for name, value in (self.xattrs or {}).items():
            yield XATTR, name, value
        for name, child in (self.entries or {}).items():
            yield ENTRY, name, None if child is None else encode_entry(child)
        for extent in self.extents.extents() if self.extents else ():
            yield EXTENT, extent[0].to_bytes(OFFSET_BYTES, "big"), encode_extent(*extent)
        if self.symlink is not None:
            yield SYMLINK, b"", self.symlink
        for suffix, mark in (self.links or {}).items():
            yield LINK, suffix, mark

    def stored_value(self, kind: int, suffix: bytes) -> bytes | None:
        """The value of anything but an extent in the stored form, as it is now; None when the record is gone."""
        if kind == INODE:
            return self.inode
        if kind == ENTRY:
            child = (self.entries or {}).get(suffix)
            return None if child is None else encode_entry(child)
        if kind == XATTR:
            return (self.xattrs or {}).get(suffix)
        if kind == LINK:
            return (self.links or {}).get(suffix)
        assert kind == SYMLINK
        return self.symlink

    def restore(self, kind: int, suffix: bytes, value: bytes | None) -> None:
        """Take a record in as `records` gave it: the way back from the database."""
        if value is not None and kind == EXTENT:
            start = int.from_bytes(suffix, "big")
            _, end, source_kind, source, skip = decode_extent(start, value)
            self.put(EXTENT, start, (end, source_kind, source, skip))
        elif value is not None and kind == ENTRY:
            self.put(ENTRY, suffix, decode_entry(value))
        elif value is not None and kind == FRESH:
            self.put(FRESH, suffix, value[0] if value else REMOVED)
        else:
            self.put(kind, suffix, value)


def is_unread(delta: Delta) -> bool:
    """Whether this is a directory of a base whose entries are still to be read."""
    if delta.extents is None or not delta.extents.based or delta.inode is None:
        return False
    return S_IFMT(decode_inode(delta.inode).mode) == S_IFDIR
