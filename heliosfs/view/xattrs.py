"""Extended attributes."""

import errno
from stat import S_ISGID
from typing import Final

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.base.keys import XATTR
from heliosfs.base.limits import XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_LIST_BYTES_MAX
from heliosfs.layers import stack
from heliosfs.view import acl as acls
from heliosfs.view.content import Content
from heliosfs.view.inode import Inode

CREATE: Final = 1
REPLACE: Final = 2
"""Flags of setxattr, with the kernel's values."""

_NAMESPACES = (b"user.", b"trusted.", b"security.")
ACLS: Final = (acls.ACCESS, acls.DEFAULT)


class Xattrs(Content):
    """The part of a view that deals with extended attributes."""

    def get_xattr(self, inode: Inode, name: bytes) -> bytes:
        """The value of an attribute; ENODATA when there is none."""
        self._check_name(name)
        value = stack.find_xattr(self.engine.tree, self._layer(inode), inode.ino, name)
        if value is None:
            raise Refusal(errno.ENODATA)
        return value

    def list_xattrs(self, inode: Inode) -> list[bytes]:
        """The names of all attributes, sorted."""
        return sorted(stack.xattrs(self.engine.tree, self._layer(inode), inode.ino))

    def set_xattr(self, inode: Inode, name: bytes, value: bytes, flags: int = 0) -> None:
        """Set an attribute; CREATE and REPLACE insist on its absence and presence."""
        self._check_writable()
        if name in ACLS:
            self.set_acl(inode, name, value)
            return
        self._check_name(name)
        if len(value) > XATTR_VALUE_BYTES_MAX:
            raise Refusal(errno.E2BIG)
        present = stack.find_xattr(self.engine.tree, self._layer(inode), inode.ino, name) is not None
        if flags & CREATE and present:
            raise Refusal(errno.EEXIST)
        if flags & REPLACE and not present:
            raise Refusal(errno.ENODATA)
        if not present:
            listed = sum(len(each) + 1 for each in self.list_xattrs(inode))
            if listed + len(name) + 1 > XATTRS_LIST_BYTES_MAX:
                raise Refusal(errno.ENOSPC, "a file's attribute names may have 64 KiB together")
        inode.ctime = now()
        self._change(inode, [(inode.ino, XATTR, name, value)])

    def set_acl(self, inode: Inode, name: bytes, value: bytes, *, keep_set_group_id: bool = True) -> None:
        """Set an access control list. The permission bits follow the access list, which is kept only if it says more
        than they do."""
        self._check_writable()
        if inode.is_symlink:
            raise Refusal(errno.EOPNOTSUPP)
        acl = acls.decode(value)
        kept: bytes | None = value
        if name == acls.ACCESS:
            mode = inode.mode if keep_set_group_id else inode.mode & ~S_ISGID
            inode.mode = mode & ~acls.PERMISSIONS | acls.permissions(acl)
            if acls.is_minimal(acl):
                kept = None
        elif not inode.is_directory:
            raise Refusal(errno.EACCES, "only directories have default access control lists")
        inode.ctime = now()
        self._change(inode, [(inode.ino, XATTR, name, kept)])

    def remove_acl(self, inode: Inode, name: bytes) -> None:
        """Remove an access control list, if there is one."""
        self._check_writable()
        if self.acl(inode, name) is not None:
            self.remove_xattr(inode, name)

    def remove_xattr(self, inode: Inode, name: bytes) -> None:
        """Remove an attribute; ENODATA when there is none."""
        self._check_writable()
        self.get_xattr(inode, name)
        inode.ctime = now()
        self._change(inode, [(inode.ino, XATTR, name, None)])

    @staticmethod
    def _check_name(name: bytes) -> None:
        if name in ACLS:
            return
        if not name.startswith(_NAMESPACES):
            raise Refusal(errno.EOPNOTSUPP)
        if len(name) > XATTR_NAME_BYTES_MAX:
            raise Refusal(errno.ERANGE)
        if name in _NAMESPACES:
            raise Refusal(errno.EINVAL)
