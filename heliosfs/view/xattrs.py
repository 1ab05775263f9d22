"""Extended attributes."""

import errno
from typing import Final

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.base.keys import XATTR
from heliosfs.base.limits import XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_LIST_BYTES_MAX
from heliosfs.layers import stack
from heliosfs.view.content import Content
from heliosfs.view.inode import Inode

CREATE: Final = 1
REPLACE: Final = 2
"""Flags of setxattr, with the kernel's values."""

_NAMESPACES = (b"user.", b"trusted.", b"security.", b"system.posix_acl_")


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

    def remove_xattr(self, inode: Inode, name: bytes) -> None:
        """Remove an attribute; ENODATA when there is none."""
        self._check_writable()
        self.get_xattr(inode, name)
        inode.ctime = now()
        self._change(inode, [(inode.ino, XATTR, name, None)])

    @staticmethod
    def _check_name(name: bytes) -> None:
        if not name.startswith(_NAMESPACES):
            raise Refusal(errno.EOPNOTSUPP)
        if len(name) > XATTR_NAME_BYTES_MAX:
            raise Refusal(errno.ERANGE)
        if name in _NAMESPACES[:3]:
            raise Refusal(errno.EINVAL)
