"""What all views of a volume share: the journal, the objects, the tree of nodes, the inode numbers."""

import errno
from collections import deque
from collections.abc import Callable

from heliosfs.base.keys import FIRST_INO, INO_MAX
from heliosfs.layers.layer import Layer
from heliosfs.merkle.tree import Tree
from heliosfs.store.journal import Journal
from heliosfs.store.objects import Objects
from heliosfs.view.base_directory import BaseDirectory


class Engine:
    """The machinery below the views.

    `orphans` holds the private layers of unlinked files that are still open: they keep journal segments and
    objects alive. `closed` names files that nobody writes any more, as (layer, inode number): the cutter's
    preferred work.
    """

    __slots__ = ("base", "closed", "dropped_bytes", "journal", "make_room", "next_ino", "objects", "orphans", "tree")

    def __init__(self, journal: Journal, objects: Objects, tree: Tree) -> None:
        self.journal = journal
        self.objects = objects
        self.tree = tree
        self.base: BaseDirectory | None = None
        """The directory that the volume began with, while something is still to be taken in from it."""
        self.next_ino = FIRST_INO
        self.orphans: set[Layer] = set()
        self.make_room: Callable[[], bool] = lambda: False
        """Gives reserved space back to a full disk, for work that frees more; False when there is none left."""
        self.dropped_bytes = 0
        """Content that lost its place in some state since the last collection: what may be dead, at most."""
        self.closed: deque[tuple[Layer, int]] = deque()

    def append_freeing(self, kind: int, header: bytes) -> None:
        """Append a record that leads to free space: on a full disk it may use the reserve."""
        try:
            self.journal.append_freeing(kind, header)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self.make_room():
                raise
            self.journal.append_freeing(kind, header)

    def allocate_ino(self) -> int:
        """An inode number that was never used in this volume."""
        ino = self.next_ino
        assert ino < INO_MAX
        self.next_ino = ino + 1
        return ino
