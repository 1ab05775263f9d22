"""Inode numbers as the kernel sees them: (view number, inode number) packed into 53 bits.

The main branch is view 0, so its numbers are the inode numbers themselves. Numbers 2 to 15 of every view and
those from INO_MAX up stand for the reserved names of a tree root; no file has them. Number 1 is special to
the kernel: it is the root of the mount, whichever view that belongs to.
"""

from typing import Final

from heliosfs.base.keys import FIRST_INO, INO_BITS, INO_MAX, ROOT_INO

MOUNT_ROOT: Final = 1
INO_MASK: Final = (1 << INO_BITS) - 1


def pack(view: int, ino: int) -> int:
    """The kernel's number of an inode of a view."""
    return view << INO_BITS | ino


def unpack(number: int) -> tuple[int, int]:
    """(view number, inode number)."""
    return number >> INO_BITS, number & INO_MASK


def is_reserved(ino: int) -> bool:
    """Whether this inode number belongs to a reserved name and not to a file."""
    return ROOT_INO < ino < FIRST_INO or ino >= INO_MAX
