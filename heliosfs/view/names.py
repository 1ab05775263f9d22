"""Names: looking up, making, linking, removing and renaming entries of directories.

Invariants:
  1. For every ENTRY (directory, name) -> inode there is the LINK (inode; directory, name), and the other way round.
  2. The link count of a file is the number of its LINKs; that of a directory 2 and its subdirectories.
  3. A directory has one name.
"""

import errno
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_ISGID
from typing import Final

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.base.keys import ENTRY, INODE, LINK, ROOT_INO, SYMLINK, XATTR, link_suffix, split_link
from heliosfs.base.limits import LINKS_MAX, NAME_BYTES_MAX, SYMLINK_BYTES_MAX
from heliosfs.base.records import ENTRY_TYPE_BITS, entry
from heliosfs.layers import stack
from heliosfs.layers.delta import FRESH, MADE, REMOVED, Change
from heliosfs.layers.layer import Layer
from heliosfs.view import acl as acls
from heliosfs.view.inode import Caller, Inode
from heliosfs.view.inodes import Inodes

NOREPLACE: Final = 1
EXCHANGE: Final = 2
"""Flags of rename, with the kernel's values."""

DIRECTORY_BYTES: Final = 4096
"""The size that directories show; some tools take 0 for "not a real directory"."""

_TYPE_MASK: Final = (1 << ENTRY_TYPE_BITS) - 1
_DIRECTORY_TYPE: Final = S_IFDIR >> 12


class Names(Inodes):
    """The part of a view that deals with names."""

    def lookup(self, parent: Inode, name: bytes) -> Inode | None:
        """The inode of a name in a directory, or None."""
        child = self._entry(parent, name)
        if child is None:
            return None
        ino = child >> ENTRY_TYPE_BITS
        return self.inodes.get(ino) or self.inode(ino)

    def parent(self, directory: Inode) -> Inode:
        """The directory that holds this one; the root's is itself."""
        if directory.ino == ROOT_INO:
            return directory
        for suffix in stack.links(self.engine.tree, self._layer(directory), directory.ino):
            return self.inode(split_link(suffix)[0])
        raise Refusal(errno.ENOENT)

    def entries(self, directory: Inode) -> list[tuple[bytes, int, int]]:
        """(name, inode number, type as S_IFMT >> 12) of every entry, sorted by name."""
        if not directory.is_directory:
            raise Refusal(errno.ENOTDIR)
        if directory.orphan is not None:
            return []
        found = stack.entries(self.engine.tree, self.top, directory.ino)
        return [(name, child >> ENTRY_TYPE_BITS, child & _TYPE_MASK) for name, child in sorted(found.items())]

    def resolve(self, path: bytes) -> Inode:
        """The inode at a path from the root; symbolic links are not followed."""
        inode = self.root
        for name in path.split(b"/"):
            if name in (b"", b"."):
                continue
            following = self.parent(inode) if name == b".." else self.lookup(inode, name)
            if following is None:
                raise Refusal(errno.ENOENT, f"no such path: {path.decode(errors='backslashreplace')}")
            inode = following
        return inode

    def readlink(self, inode: Inode) -> bytes:
        """The target of a symbolic link."""
        if not inode.is_symlink:
            raise Refusal(errno.EINVAL)
        target = stack.find_symlink(self.engine.tree, self._layer(inode), inode.ino)
        return b"" if target is None else target

    def make(
        self,
        parent: Inode,
        name: bytes,
        mode: int,
        caller: Caller,
        rdev: int = 0,
        target: bytes = b"",
        umask: int | None = None,
    ) -> Inode:
        """A new file of any type, as the type bits of `mode` say; `target` is for symbolic links.

        With `umask` the directory's default access control list applies, or the mask where there is none; without it
        the mask has been applied already, and there is no inheritance.
        """
        self._check_place(parent, name)
        kind = S_IFMT(mode)
        if len(target) > SYMLINK_BYTES_MAX:
            raise Refusal(errno.ENAMETOOLONG)
        if self._entry(parent, name) is not None:
            raise Refusal(errno.EEXIST)
        lists: list[tuple[bytes, bytes]] = []
        if umask is not None and kind != S_IFLNK:
            mode, lists = self._inherited(parent, mode, umask)
        inode = self._new_inode(parent, mode, caller)
        inode.rdev = rdev
        changes: list[Change] = [
            (inode.ino, FRESH, b"", MADE),
            (inode.ino, LINK, link_suffix(parent.ino, name), b""),
            (parent.ino, ENTRY, name, entry(inode.ino, mode)),
        ]
        changes += [(inode.ino, XATTR, key, value) for key, value in lists]
        if kind == S_IFLNK:
            inode.size = len(target)
            changes.append((inode.ino, SYMLINK, b"", target))
        elif kind == S_IFDIR:
            parent.nlink += 1
        parent.mtime = parent.ctime = inode.ctime
        self._commit(changes, inode, parent)
        self.inodes[inode.ino] = inode
        return inode

    def _inherited(self, parent: Inode, mode: int, umask: int) -> tuple[int, list[tuple[bytes, bytes]]]:
        """The mode of something new in a directory, and the access control lists that it begins with."""
        default = self.acl(parent, acls.DEFAULT)
        if default is None:
            return mode & ~(umask & acls.PERMISSIONS), []
        access = acls.inherited(default, mode)
        lists = [] if acls.is_minimal(access) else [(acls.ACCESS, acls.encode(access))]
        if S_IFMT(mode) == S_IFDIR:
            lists.append((acls.DEFAULT, acls.encode(default)))
        return mode & ~acls.PERMISSIONS | acls.permissions(access), lists

    def _new_inode(self, parent: Inode, mode: int, caller: Caller) -> Inode:
        inode = Inode(self._view(), self.engine.allocate_ino())
        inode.uid, inode.gid, inode.nlink = caller.uid, caller.gid, 1
        if parent.mode & S_ISGID:
            inode.gid = parent.gid
            if S_IFMT(mode) == S_IFDIR:
                mode |= S_ISGID
        if S_IFMT(mode) == S_IFDIR:
            inode.nlink, inode.size = 2, DIRECTORY_BYTES
        inode.mode = mode
        inode.atime = inode.mtime = inode.ctime = now()
        return inode

    def link(self, inode: Inode, parent: Inode, name: bytes) -> None:
        """One more name for a file."""
        self._check_place(parent, name)
        if inode.is_directory:
            raise Refusal(errno.EPERM)
        if inode.orphan is not None:
            raise Refusal(errno.ENOENT)
        if inode.nlink >= LINKS_MAX:
            raise Refusal(errno.EMLINK)
        if self._entry(parent, name) is not None:
            raise Refusal(errno.EEXIST)
        inode.nlink += 1
        parent.mtime = parent.ctime = inode.ctime = now()
        changes: list[Change] = [
            (inode.ino, LINK, link_suffix(parent.ino, name), b""),
            (parent.ino, ENTRY, name, entry(inode.ino, inode.mode)),
        ]
        self._commit(changes, inode, parent)

    def unlink(self, parent: Inode, name: bytes) -> Inode:
        """Remove a name of anything but a directory; the inode that had it."""
        inode = self._victim(parent, name)
        if inode.is_directory:
            raise Refusal(errno.EISDIR)
        self._remove(parent, name, inode)
        return inode

    def rmdir(self, parent: Inode, name: bytes) -> Inode:
        """Remove an empty directory; its inode."""
        inode = self._victim(parent, name)
        if not inode.is_directory:
            raise Refusal(errno.ENOTDIR)
        if stack.has_entries(self.engine.tree, self.top, inode.ino):
            raise Refusal(errno.ENOTEMPTY)
        self._remove(parent, name, inode)
        return inode

    def _victim(self, parent: Inode, name: bytes) -> Inode:
        self._check_writable()
        inode = self.lookup(parent, name)
        if inode is None:
            raise Refusal(errno.ENOENT)
        return inode

    def _remove(self, parent: Inode, name: bytes, inode: Inode) -> None:
        changes: list[Change] = [(parent.ino, ENTRY, name, None)]
        private = self._unlink(changes, parent, name, inode)
        parent.mtime = parent.ctime = now()
        if private is None:
            self._commit(changes, parent, inode, freeing=True)
        else:
            self._commit(changes, parent, freeing=True)
            self._bury(inode, private)

    def _unlink(self, changes: list[Change], parent: Inode, name: bytes, inode: Inode) -> Layer | None:
        """Add the loss of one name to `changes`; what keeps the content when it was the last one."""
        if inode.is_directory:
            parent.nlink -= 1
        elif inode.nlink > 1:
            inode.nlink -= 1
            inode.ctime = now()
            changes.append((inode.ino, LINK, link_suffix(parent.ino, name), None))
            return None
        changes.append((inode.ino, FRESH, b"", REMOVED))
        if inode.ino not in self.top.uncut:
            self.engine.dropped_bytes += inode.allocated
        return self.top.detach(inode.ino)

    def _bury(self, inode: Inode, private: Layer) -> None:
        """The last name is gone: live on for those who hold the inode, or end."""
        if inode.lookups or inode.opens:
            self._orphan(inode, private)
            inode.removals += 1
            inode.ctime = now()
            private.apply([(inode.ino, INODE, b"", inode.encode())])
        else:
            inode.nlink = 0
            self.inodes.pop(inode.ino, None)

    def rename(
        self, parent: Inode, name: bytes, new_parent: Inode, new_name: bytes, flags: int = 0
    ) -> Inode | None:
        """Move a name, over another one if that is there; the inode that lost its name so.

        With NOREPLACE an existing target is EEXIST; with EXCHANGE the two change places.
        """
        if flags not in (0, NOREPLACE, EXCHANGE):
            raise Refusal(errno.EINVAL)
        inode = self._victim(parent, name)
        self._check_place(new_parent, new_name)
        target = self.lookup(new_parent, new_name)
        if flags == EXCHANGE:
            if target is None:
                raise Refusal(errno.ENOENT)
            self._exchange(parent, name, inode, new_parent, new_name, target)
            return None
        if target is not None and flags == NOREPLACE:
            raise Refusal(errno.EEXIST)
        if target is inode:
            return None
        self._check_not_below(inode, new_parent)
        if target is not None:
            self._check_replaceable(inode, target)
        self._move(parent, name, inode, new_parent, new_name, target)
        return target

    def _move(
        self, parent: Inode, name: bytes, inode: Inode, new_parent: Inode, new_name: bytes, target: Inode | None
    ) -> None:
        changes: list[Change] = []
        changed = {parent.ino: parent, new_parent.ino: new_parent, inode.ino: inode}
        private = None
        if target is not None:
            private = self._unlink(changes, new_parent, new_name, target)
            if private is None:
                changed[target.ino] = target
        if inode.is_directory and parent is not new_parent:
            parent.nlink -= 1
            new_parent.nlink += 1
        changes += self._rebind(parent, name, inode, new_parent, new_name)
        changes.append((parent.ino, ENTRY, name, None))
        parent.mtime = parent.ctime = new_parent.mtime = new_parent.ctime = inode.ctime = now()
        self._commit(changes, *changed.values())
        if target is not None and private is not None:
            self._bury(target, private)

    @staticmethod
    def _rebind(parent: Inode, name: bytes, inode: Inode, new_parent: Inode, new_name: bytes) -> list[Change]:
        return [
            (inode.ino, LINK, link_suffix(parent.ino, name), None),
            (inode.ino, LINK, link_suffix(new_parent.ino, new_name), b""),
            (new_parent.ino, ENTRY, new_name, entry(inode.ino, inode.mode)),
        ]

    def _exchange(
        self, parent: Inode, name: bytes, inode: Inode, new_parent: Inode, new_name: bytes, target: Inode
    ) -> None:
        if inode is target:
            return
        self._check_not_below(inode, new_parent)
        self._check_not_below(target, parent)
        subdirectories = inode.is_directory - target.is_directory
        if parent is not new_parent:
            parent.nlink -= subdirectories
            new_parent.nlink += subdirectories
        changes = self._rebind(parent, name, inode, new_parent, new_name)
        changes += self._rebind(new_parent, new_name, target, parent, name)
        stamp = now()
        changed = {each.ino: each for each in (parent, new_parent, inode, target)}
        for each in changed.values():
            each.ctime = stamp
        parent.mtime = new_parent.mtime = stamp
        self._commit(changes, *changed.values())

    def _check_not_below(self, inode: Inode, directory: Inode) -> None:
        """A directory may not move into itself."""
        if not inode.is_directory:
            return
        while directory.ino != ROOT_INO:
            if directory is inode:
                raise Refusal(errno.EINVAL)
            directory = self.parent(directory)

    def _check_replaceable(self, inode: Inode, target: Inode) -> None:
        if target.is_directory:
            if not inode.is_directory:
                raise Refusal(errno.EISDIR)
            if stack.has_entries(self.engine.tree, self.top, target.ino):
                raise Refusal(errno.ENOTEMPTY)
        elif inode.is_directory:
            raise Refusal(errno.ENOTDIR)

    def _check_place(self, parent: Inode, name: bytes) -> None:
        self._check_writable()
        if not parent.is_directory:
            raise Refusal(errno.ENOTDIR)
        if parent.orphan is not None:
            raise Refusal(errno.ENOENT)
        if len(name) > NAME_BYTES_MAX:
            raise Refusal(errno.ENAMETOOLONG)
        assert name not in (b"", b".", b"..") and b"/" not in name

    def _entry(self, parent: Inode, name: bytes) -> int | None:
        if S_IFMT(parent.mode) != S_IFDIR:
            raise Refusal(errno.ENOTDIR)
        if parent.orphan is not None:
            return None
        if len(name) > NAME_BYTES_MAX:
            raise Refusal(errno.ENAMETOOLONG)
        return stack.find_entry(self.engine.tree, self.top, parent.ino, name)
