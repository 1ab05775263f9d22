"""Attributes: mode, owner, size, times."""

import errno
from stat import S_IFDIR, S_IFMT, S_IFREG, S_ISGID, S_ISUID, S_IXGRP

from heliosfs.base.clock import now, representable
from heliosfs.base.errors import Refusal
from heliosfs.base.keys import XATTR
from heliosfs.layers.delta import Change
from heliosfs.view import acl as acls
from heliosfs.view.content import KEEP, Content
from heliosfs.view.inode import Inode

PERMISSION_BITS = 0o7777


class Attributes(Content):
    """The part of a view that changes attributes."""

    def set_attributes(
        self,
        inode: Inode,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime: int | None = None,
        mtime: int | None = None,
        ctime: int | None = None,
        strip_privileges: int = KEEP,
    ) -> None:
        """Change what is not None, at once. Times in ns; the change time is now unless given.

        `strip_privileges`: what the caller's change does to set-id bits and capabilities (KEEP, STRIP, STRIP_GROUP).
        A change of owner always takes set-id bits away, from all but directories.
        """
        self._check_writable()
        if size is not None and S_IFMT(inode.mode) != S_IFREG:
            raise Refusal(errno.EISDIR if inode.is_directory else errno.EINVAL)
        if size is not None and size < 0:
            raise Refusal(errno.EINVAL)
        if strip_privileges:
            self._strip_privileges(inode, strip_privileges)
        # Whatever has to be read is read first: if that fails, nothing has changed.
        acl = None if mode is None else self.acl(inode, acls.ACCESS)
        changes: list[Change] = []
        stamp = now() if ctime is None else representable(ctime)
        if size is not None:
            changes = self._truncation(inode, size)
            inode.mtime = stamp
        freeing = bool(changes)
        if mode is not None:
            changes += self._change_mode(inode, mode, acl)
        if uid is not None or gid is not None:
            self._change_owner(inode, uid, gid, mode is not None)
        if atime is not None:
            inode.atime = representable(atime)
        if mtime is not None:
            inode.mtime = representable(mtime)
        inode.ctime = stamp
        self._change(inode, changes, freeing=freeing)

    @staticmethod
    def _change_mode(inode: Inode, mode: int, acl: acls.Acl | None) -> list[Change]:
        inode.mode = S_IFMT(inode.mode) | mode & PERMISSION_BITS
        if acl is None:
            return []
        return [(inode.ino, XATTR, acls.ACCESS, acls.encode(acls.changed_mode(acl, mode)))]

    @staticmethod
    def _change_owner(inode: Inode, uid: int | None, gid: int | None, mode_given: bool) -> None:
        if uid is not None:
            inode.uid = uid
        if gid is not None:
            inode.gid = gid
        if not mode_given and S_IFMT(inode.mode) != S_IFDIR:
            inode.mode &= ~S_ISUID
            if inode.mode & S_IXGRP:
                inode.mode &= ~S_ISGID
