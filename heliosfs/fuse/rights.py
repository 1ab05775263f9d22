"""Who may change a tree as a whole, and what a change by others than root takes from a file.

Whoever may create files in the root directory may checkpoint and fork; what changes the live tree for
everyone is for the owner of the root directory and for root.
"""

import errno
from os import W_OK
from stat import S_ISGID, S_IWGRP, S_IWOTH, S_IWUSR, S_IXGRP
from typing import NamedTuple

from heliosfs.base.errors import Refusal
from heliosfs.fuse import processes
from heliosfs.view.acl import ACCESS, permits
from heliosfs.view.content import KEEP, STRIP, STRIP_GROUP
from heliosfs.view.inode import Caller, Inode


class Requester(NamedTuple):
    """Who asks: ids as the kernel gave them with the request."""

    uid: int
    gid: int
    pid: int

    def caller(self) -> Caller:
        """The same for the operation log, with the command's name."""
        return Caller(self.uid, self.gid, self.pid, processes.command(self.pid))


def check_may_write(root: Inode, requester: Requester) -> None:
    """EACCES unless the requester may create files in this root directory."""
    if not _may_write(root, requester):
        raise Refusal(errno.EACCES, "this needs the right to create files in the root directory of the tree")


def check_is_owner(root: Inode, requester: Requester) -> None:
    """EPERM unless the requester owns this root directory or is root."""
    if requester.uid not in (0, root.uid):
        raise Refusal(errno.EPERM, "this is for the owner of the root directory of the tree, and for root")


def stripped(inode: Inode, uid: int, gid: int, pid: int, *, root_too: bool = False) -> int:
    """What a change of content by such a caller, or of owner (`root_too`), does to a file's privileges."""
    if uid == 0:
        return STRIP if root_too else KEEP
    if inode.mode & (S_ISGID | S_IXGRP) == S_ISGID and not is_member(inode.gid, gid, pid):
        return STRIP_GROUP
    return STRIP


def is_member(wanted: int, gid: int, pid: int) -> bool:
    """Whether a process, with this group id, is in a group."""
    return gid == wanted or wanted in processes.groups(pid)


def _may_write(root: Inode, requester: Requester) -> bool:
    uid, gid, pid = requester
    if uid == 0:
        return True
    acl = root.view.acl(root, ACCESS)
    if acl is not None:
        in_group = is_member(root.gid, gid, pid)
        return permits(acl, W_OK, uid == root.uid, uid, in_group, lambda wanted: is_member(wanted, gid, pid))
    if uid == root.uid:
        return bool(root.mode & S_IWUSR)
    if is_member(root.gid, gid, pid):
        return bool(root.mode & S_IWGRP)
    return bool(root.mode & S_IWOTH)
