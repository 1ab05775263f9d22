"""Codecs of the values in a tree, as they lie in the journal, in RocksDB and in Merkle nodes.

    INODE    msgpack [mode, uid, gid, nlink, size, allocated, atime, mtime, ctime, rdev]; times in ns
    ENTRY    child's inode number << 4 | type, 5 bytes big-endian; in memory and in the journal the integer
    EXTENT   msgpack [length, source kind, source, skip]
    others   the bytes themselves

Every codec is deterministic, because equal trees must have equal roots. Decoding damaged bytes raises
`Corruption`, never anything else.
"""

from typing import Final, NamedTuple

import msgspec

from heliosfs.base.errors import Corruption

# Where the bytes of an extent are. On disk: the numbers never change.
HOLE: Final = 0
"""Nowhere: the range reads as zeros and hides what lies below. Only in layers; a tree leaves holes out."""
WRITTEN: Final = 1
"""In the journal, as they were written: the source is the position of the record. Never in a tree."""
CHUNK: Final = 2
"""In an object: the source is its digest."""
INLINE: Final = 3
"""In the extent itself: the source is the bytes."""
BASE: Final = 4
"""In a file of the directory that the volume began with: the source says which and how it was, see
`view.base_directory`. On a directory's inode: its entries are still to be read there. Never in a tree."""

Source = int | bytes | None
Extent = tuple[int, int, int, Source, int]
"""(start, end, kind, source, skip): bytes [start, end) of a file are those of the source from `skip` on."""


class InodeRecord(NamedTuple):
    """The value of an INODE record. Sizes in bytes, times in nanoseconds since 1970.

    `allocated` counts the bytes of the file that are not in holes.
    """

    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    allocated: int
    atime: int
    mtime: int
    ctime: int
    rdev: int


_encode = msgspec.msgpack.Encoder().encode
_decode_inode = msgspec.msgpack.Decoder(tuple[int, int, int, int, int, int, int, int, int, int]).decode
_decode_extent = msgspec.msgpack.Decoder(tuple[int, int, int | bytes | None, int]).decode


def encode_inode(fields: tuple[int, ...]) -> bytes:
    """The value of an INODE record from the fields of an `InodeRecord`, in their order."""
    return _encode(fields)


def decode_inode(value: bytes) -> InodeRecord:
    """The fields of an INODE record."""
    try:
        return InodeRecord(*_decode_inode(value))
    except msgspec.MsgspecError as error:
        raise Corruption("inode record", str(error)) from error


ENTRY_TYPE_BITS: Final = 4
_ENTRY_BYTES: Final = 5


def entry(child: int, mode: int) -> int:
    """What a directory says of one name: the child's inode number and the type bits of its mode."""
    return child << ENTRY_TYPE_BITS | mode >> 12


def encode_entry(value: int) -> bytes:
    """The stored form of `entry`."""
    return value.to_bytes(_ENTRY_BYTES, "big")


def decode_entry(value: bytes) -> int:
    """The integer form of a stored ENTRY record."""
    if len(value) != _ENTRY_BYTES:
        raise Corruption("directory entry", f"a record of {len(value)} bytes")
    return int.from_bytes(value, "big")


def encode_extent(start: int, end: int, kind: int, source: Source, skip: int) -> bytes:
    """The value of an EXTENT record; `start` is in its key."""
    return _encode((end - start, kind, source, skip))


def decode_extent(start: int, value: bytes) -> Extent:
    """The extent at `start`."""
    try:
        length, kind, source, skip = _decode_extent(value)
    except msgspec.MsgspecError as error:
        raise Corruption("extent record", str(error)) from error
    if length <= 0 or skip < 0 or not _source_fits(kind, source):
        raise Corruption("extent record", f"offset {start}")
    return start, start + length, kind, source, skip


def _source_fits(kind: int, source: Source) -> bool:
    if kind == CHUNK:
        return isinstance(source, bytes) and len(source) == 32
    if kind == WRITTEN:
        return isinstance(source, int)
    if kind in (INLINE, BASE):
        return isinstance(source, bytes)
    return kind == HOLE and source is None
