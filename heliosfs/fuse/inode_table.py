"""The inodes that the kernel knows, by its numbers, and the attributes it is given of them.

Invariants:
  1. `known` holds an inode exactly while its `lookups` are above 0: as often as it was given to the kernel
     and not yet forgotten by it. The root of the mount is always there.
  2. An inode leaves its view's memory only when lookups and opens are both 0.
  3. `inode.attributes` is None or what the kernel was last told; the view drops it with every change.
"""

from collections.abc import Callable
from typing import Final

from pyfuse3 import EntryAttributes, InodeT

from heliosfs.base.keys import INO_BITS, ROOT_INO
from heliosfs.fuse.numbers import MOUNT_ROOT
from heliosfs.view.inode import Inode
from heliosfs.view.view import View

FOREVER: Final = 365 * 86400
"""Seconds that the kernel may keep a name or attributes: nobody but us changes them, and we tell it."""
USUAL: Final = 1
"""What libfuse would say, where the above is not wanted."""
GENERATION_MAX: Final = (1 << 32) - 1
"""The kernel keeps 32 bits and compares 64."""
REMOVALS_BITS: Final = 10
"""More removals of one directory, always held by somebody, begin again: then the first dead one would come back."""
IO_BYTES: Final = 64 << 10
"""What stat shows as the best size for reads and writes: some programs make their buffers that big."""


class InodeTable:
    """Counts what the kernel holds and makes the attributes that it is sent."""

    def __init__(
        self,
        mount_root: Inode,
        generation: Callable[[View], int],
        released: Callable[[View], None],
        timeout: float = FOREVER,
    ) -> None:
        self.mount_root = mount_root
        self.timeout = timeout
        """Seconds that the kernel may keep what it is told."""
        self.switches = 0
        """How often a view was switched to another state: directory listings in progress check their names
        then."""
        self.generation = generation
        self._released = released
        mount_root.lookups += 1
        self.known: dict[int, Inode] = {MOUNT_ROOT: mount_root}

    def number(self, inode: Inode) -> int:
        """The kernel's number of an inode."""
        if inode.ino == ROOT_INO and inode is self.mount_root:
            return MOUNT_ROOT
        return inode.view.number << INO_BITS | inode.ino

    def attributes(self, inode: Inode) -> EntryAttributes:
        """What the kernel is told of an inode. Without a look-up that it would have to forget."""
        return inode.attributes or self._fill(inode)  # type: ignore[return-value]  # nobody else sets it

    def enter(self, inode: Inode) -> EntryAttributes:
        """The same, and the kernel holds the inode once more."""
        lookups = inode.lookups
        inode.lookups = lookups + 1
        if not lookups:
            self.known[self.number(inode)] = inode
        return inode.attributes or self._fill(inode)  # type: ignore[return-value]

    def forget(self, inode: Inode, number: int, lookups: int) -> None:
        """The kernel let go of that many look-ups."""
        inode.lookups -= lookups
        if inode.lookups <= 0:
            inode.lookups = 0
            del self.known[number]
            self.let_go(inode)

    def let_go(self, inode: Inode) -> None:
        """After lookups or opens went down: forget an inode that nobody holds."""
        if inode.lookups or inode.opens:
            return
        view = inode.view
        view.forget(inode)
        if not view.inodes:
            self._released(view)

    def _fill(self, inode: Inode) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = InodeT(self.number(inode))
        entry.generation = self._generation_of(inode)
        entry.entry_timeout = entry.attr_timeout = self.timeout
        entry.st_mode = inode.mode
        entry.st_nlink = inode.nlink
        entry.st_uid = inode.uid
        entry.st_gid = inode.gid
        entry.st_rdev = inode.rdev
        entry.st_size = inode.size
        entry.st_blksize = IO_BYTES
        entry.st_blocks = (inode.allocated + 511) >> 9
        entry.st_atime_ns = inode.atime
        entry.st_mtime_ns = inode.mtime
        entry.st_ctime_ns = inode.ctime
        inode.attributes = entry
        return entry


    def _generation_of(self, inode: Inode) -> int:
        """Another one makes the kernel take the inode for a new one. A directory needs that after it was removed: if a
        restore brings it back, the kernel would still take its inode, while somebody holds that, for a dead one, in
        which there is nothing. An open file stays what it is."""
        generation = self.generation(inode.view) << REMOVALS_BITS
        if inode.is_directory:
            generation |= inode.removals & ((1 << REMOVALS_BITS) - 1)
        return generation & GENERATION_MAX


def absent_for(seconds: float) -> EntryAttributes:
    """The answer that a name does not exist, which the kernel may keep that long."""
    entry = EntryAttributes()
    entry.st_ino = InodeT(0)
    entry.entry_timeout = seconds
    return entry
