"""Keys of the one sorted map that is a tree: (inode number, kind, suffix).

As bytes a key is the inode number in 5 bytes, big-endian, the kind in one, and the suffix:

    INODE    -                      mode, owner, size, times
    XATTR    name                   value
    ENTRY    name                   child's inode number and type
    EXTENT   offset, 8 bytes        where the bytes of a piece of content are
    SYMLINK  -                      target
    LINK     parent (5 bytes), name nothing: the way back from an inode to its names

so all of one inode lies together, and the names of a directory lie in order.
The kinds are on disk: their numbers never change.
"""

from typing import Final

INODE: Final = 1
XATTR: Final = 2
ENTRY: Final = 3
EXTENT: Final = 4
SYMLINK: Final = 5
LINK: Final = 6

INO_BITS: Final = 36
"""Inode numbers: 68 billion in the life of a volume."""
VIEW_BITS: Final = 17
"""View numbers: (view, inode) packs into 53 bits, which JavaScript's numbers hold exactly."""
INO_BYTES: Final = 5
ROOT_INO: Final = 1
"""The root directory of every tree."""
FIRST_INO: Final = 16
"""The first number given to a file: those below stand for the reserved names of a tree root."""
INO_MAX: Final = 1 << (INO_BITS - 1)
"""Numbers from here up are made on the fly for generated files; they are never stored."""

OFFSET_BYTES: Final = 8


def key(ino: int, kind: int, suffix: bytes = b"") -> bytes:
    """The key of a record."""
    return (ino << 8 | kind).to_bytes(INO_BYTES + 1, "big") + suffix


def split(record_key: bytes) -> tuple[int, int, bytes]:
    """(inode number, kind, suffix) of a key."""
    head = int.from_bytes(record_key[: INO_BYTES + 1], "big")
    return head >> 8, head & 0xFF, record_key[INO_BYTES + 1 :]


def link_suffix(parent: int, name: bytes) -> bytes:
    """The suffix of a LINK record."""
    return parent.to_bytes(INO_BYTES, "big") + name


def split_link(suffix: bytes) -> tuple[int, bytes]:
    """(parent's inode number, name) of a LINK record's suffix."""
    return int.from_bytes(suffix[:INO_BYTES], "big"), suffix[INO_BYTES:]
