"""The inodes of a view, and the one way in which they change.

Invariants:
  1. An `Inode` in memory says what the top layer's stack says; an orphan what its private layer says.
  2. A change is appended to the journal first, then put into the top layer. When the append fails (a full
     disk), the inodes are read back from the layer: nothing has changed.
  3. A read-only view never changes.
"""

import errno
from typing import TYPE_CHECKING

from heliosfs.base.errors import Corruption, Refusal
from heliosfs.base.keys import INODE, ROOT_INO, split_link
from heliosfs.layers import stack
from heliosfs.layers.delta import Change
from heliosfs.layers.layer import Layer
from heliosfs.layers.replay import BATCH, encode
from heliosfs.view import acl as acls
from heliosfs.view.engine import Engine
from heliosfs.view.inode import Inode

if TYPE_CHECKING:
    from heliosfs.view.view import View


class Inodes:
    """The part of a view that finds, changes and forgets inodes."""

    def __init__(self, engine: Engine, number: int, top: Layer, read_only: bool) -> None:
        self.engine = engine
        self.number = number
        self.top = top
        self.read_only = read_only
        self.inodes: dict[int, Inode] = {}

    @property
    def root(self) -> Inode:
        """The root directory."""
        return self.inode(ROOT_INO)

    def inode(self, ino: int) -> Inode:
        """The inode of that number; ESTALE when the tree has none."""
        inode = self.inodes.get(ino)
        if inode is None:
            record = stack.find_inode(self.engine.tree, self.top, ino)
            if record is None:
                raise Refusal(errno.ESTALE, f"inode {ino} is not in this tree")
            inode = Inode(self._view(), ino)
            inode.decode(record)
            self.inodes[ino] = inode
        return inode

    @property
    def is_held(self) -> bool:
        """Whether anybody has a file or directory of it."""
        return any(inode.lookups or inode.opens for inode in self.inodes.values())

    def share_root(self, other: "Inodes") -> None:
        """Take the root directory over from another view, if that has it and shows the same state: what everybody
        asks for first need not be looked for in the layers then."""
        root = other.inodes.get(ROOT_INO)
        if root is not None and self.top.state is other.top.state:
            self.inodes[ROOT_INO] = root.copy(self._view())

    def forget(self, inode: Inode) -> None:
        """Nobody holds the inode any more: drop it from memory; an orphan ends."""
        assert inode.lookups == 0 and inode.opens == 0
        if self.inodes.get(inode.ino) is inode:
            del self.inodes[inode.ino]
        if inode.orphan is not None:
            self.engine.orphans.discard(inode.orphan)

    def paths(self, ino: int) -> list[bytes]:
        """All paths of an inode from the root, without a leading slash; empty when it is not in the tree."""
        if ino == ROOT_INO:
            return [b""]
        found: list[bytes] = []
        for suffix in sorted(stack.links(self.engine.tree, self.top, ino)):
            parent, name = split_link(suffix)
            found.extend(path + b"/" + name if path else name for path in self.paths(parent))
        return found

    def switched(self, before: Layer, changed: set[int]) -> list[Inode]:
        """The top became another state than `before`; `changed` holds every inode number in which they differ.

        The inodes in memory that changed. One that is gone lives on as an orphan while it is held, and an
        orphan whose number has a name again is that file again.
        """
        top = self.top
        affected = []
        for ino in changed & self.inodes.keys():
            inode = self.inodes[ino]
            record = stack.find_inode(self.engine.tree, top, ino)
            if record is None and inode.orphan is not None:
                continue
            affected.append(inode)
            if record is not None:
                if inode.orphan is not None:
                    self.engine.orphans.discard(inode.orphan)
                    inode.orphan = None
                inode.decode(record)
            elif inode.lookups or inode.opens:
                self._orphan(inode, Layer(0, before))
            else:
                del self.inodes[ino]
        return affected

    def acl(self, inode: Inode, name: bytes) -> acls.Acl | None:
        """An access control list (`acl.ACCESS` or `acl.DEFAULT`) of an inode, or None."""
        value = stack.find_xattr(self.engine.tree, self._layer(inode), inode.ino, name)
        if value is None:
            return None
        try:
            return acls.decode(value)
        except Refusal as refusal:
            raise Corruption("access control list", f"inode {inode.ino}") from refusal

    def _orphan(self, inode: Inode, private: Layer) -> None:
        inode.orphan = private
        inode.nlink = 0
        inode.attributes = None
        self.engine.orphans.add(private)

    def _layer(self, inode: Inode) -> Layer:
        """Where to start reading what belongs to an inode."""
        return inode.orphan or self.top

    def _commit(self, changes: list[Change], *inodes: Inode, freeing: bool = False) -> None:
        """Make one operation real: its records and those of the inodes it changed, all or nothing.

        One that frees space (`freeing`) works on a full disk too.
        """
        for inode in inodes:
            changes.append((inode.ino, INODE, b"", inode.encode()))
            inode.attributes = None
        top = self.top
        try:
            if freeing:
                self.engine.append_freeing(BATCH, encode((top.id, changes)))
            else:
                self.engine.journal.append(BATCH, encode((top.id, changes)))
        except OSError:
            self._reload(*inodes)
            raise
        top.apply(changes)

    def _commit_orphan(self, inode: Inode, changes: list[Change]) -> None:
        """Change an inode that has no name: it ends with the process, so the journal need not know."""
        assert inode.orphan is not None
        changes.append((inode.ino, INODE, b"", inode.encode()))
        inode.attributes = None
        inode.orphan.apply(changes)

    def _reload(self, *inodes: Inode) -> None:
        for inode in inodes:
            record = stack.find_inode(self.engine.tree, self._layer(inode), inode.ino)
            if record is not None:
                inode.decode(record)

    def _check_writable(self) -> None:
        if self.read_only:
            raise Refusal(errno.EROFS)

    def _view(self) -> "View":
        raise NotImplementedError
