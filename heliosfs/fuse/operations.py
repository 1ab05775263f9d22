"""The request handlers: each takes the kernel's numbers, finds the inode, asks its view, and answers.

An inode that `InodeTable` does not know is one of the reserved names, or gone: `Namespace` answers for those.
"""

import errno
import os
from collections.abc import Callable, Coroutine, Sequence
from os import O_ACCMODE, O_EXCL, O_TRUNC
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from typing import Any, Final

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
    XAttrNameT,
)

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.base.keys import ROOT_INO
from heliosfs.base.limits import NAME_BYTES_MAX
from heliosfs.fuse.commits import GroupCommit
from heliosfs.fuse.content_digest import PREFIX as OURS
from heliosfs.fuse.content_digest import ContentDigests
from heliosfs.fuse.errors import Faults
from heliosfs.fuse.filling import Fillings
from heliosfs.fuse.handler import handler
from heliosfs.fuse.handles import (
    Content,
    Handles,
    OpenDirectory,
    OpenFile,
    OpenFileWithAccessTime,
    is_access_due,
    touch,
)
from heliosfs.fuse.inode_table import InodeTable, absent_for
from heliosfs.fuse.keeping import NOTE, Notes
from heliosfs.fuse.loop import Activity
from heliosfs.fuse.magic import is_reserved_name
from heliosfs.fuse.namespace import Namespace
from heliosfs.fuse.options import Options
from heliosfs.fuse.rights import Requester, is_member, stripped
from heliosfs.fuse.room import Room
from heliosfs.store.store import Store
from heliosfs.view.content import KEEP
from heliosfs.view.inode import Caller, Inode
from heliosfs.view.xattrs import ACLS

KINDS: Final = (
    "lookup", "forget", "getattr", "setattr", "readlink", "mknod", "mkdir", "unlink", "rmdir", "symlink",
    "rename", "link", "open", "create", "read", "write", "flush", "release", "fsync", "opendir", "readdir",
    "releasedir", "fsyncdir", "statfs", "setxattr", "getxattr", "listxattr", "removexattr", "access",
)  # fmt: skip

_NAMESPACES: Final = (b"user.", b"trusted.", b"security.")
"""Kinds of extended attributes that there are; besides, access control lists where they are on."""
_SELINUX: Final = b"security.selinux"
_TRUSTED: Final = b"trusted."

_PERMISSION_BITS: Final = 0o7777
_BLOCK_BYTES: Final = 4096


class Operations(pyfuse3.Operations):
    """What pyfuse3 calls."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    """With it the kernel would own size and times of files in use, and a restore would show stale ones."""
    enable_acl = False

    def __init__(
        self,
        table: InodeTable,
        handles: Handles,
        namespace: Namespace,
        fillings: Fillings,
        commits: GroupCommit,
        faults: Faults,
        activity: Activity,
        room: Room,
        notes: Notes,
        store: Store,
        options: Options,
    ) -> None:
        self.requests = dict.fromkeys(KINDS, 0)
        self.faults = faults
        self.activity = activity
        self.initialized: Callable[[], None] | None = None
        """Told when libfuse has taken the kernel's greeting."""
        self.attributes_changed: Callable[[Inode], Coroutine[Any, Any, None]] | None = None
        """Told when owner or mode of a tree's root change: those of its reserved names follow."""
        self._table = table
        self._known = table.known
        self._handles = handles
        self._files = handles.files
        self._namespace = namespace
        self._filling = fillings.active
        self._fillings = fillings
        self._commits = commits
        self._store = store
        self._journal = store.journal
        self._room = room
        self._list_magic = options.list_magic
        self._acl = options.acl
        self._relatime = options.relatime
        self._open_file = OpenFileWithAccessTime if options.relatime else OpenFile
        self._digests = ContentDigests()
        self._notes = notes
        self._absent = absent_for(table.timeout)
        self._no_such_kind = errno.EOPNOTSUPP if options.quiet_xattrs else errno.ENODATA
        self._silent_close = options.silent_close

    def init(self) -> None:
        if self.initialized is not None:
            self.initialized()

    # Names

    @handler
    def lookup(self, parent: InodeT, name: FileNameT, context: RequestContext) -> EntryAttributes:
        directory = self._known.get(parent)
        if directory is None:
            return self._namespace.lookup(parent, name)
        inode = directory.view.lookup(directory, name)
        if inode is not None:
            return self._table.enter(inode)
        if directory.ino == ROOT_INO:
            return self._namespace.reserved(directory.view, name) or self._absent
        return self._absent

    @handler
    def forget(self, pairs: Sequence[tuple[InodeT, int]]) -> None:
        known, table = self._known, self._table
        for number, lookups in pairs:
            inode = known.get(number)
            if inode is None:
                self._namespace.forget(number, lookups)
            else:
                table.forget(inode, number, lookups)

    @handler
    def mknod(
        self, parent: InodeT, name: FileNameT, mode: ModeT, rdev: int, context: RequestContext
    ) -> EntryAttributes:
        directory = self._parent(parent, name, context)
        caller = Caller(context.uid, context.gid, context.pid)
        return self._table.enter(directory.view.make(directory, name, mode, caller, rdev, umask=self._umask(context)))

    @handler
    def mkdir(
        self, parent: InodeT, name: FileNameT, mode: ModeT, context: RequestContext
    ) -> EntryAttributes | Coroutine[Any, Any, EntryAttributes]:
        if parent not in self._known:
            return self._namespace.mkdir(parent, name, self._masked(mode, context), context)
        directory = self._parent(parent, name, context)
        caller = Caller(context.uid, context.gid, context.pid)
        return self._table.enter(directory.view.make(directory, name, mode, caller, umask=self._umask(context)))

    @handler
    def symlink(self, parent: InodeT, name: FileNameT, target: FileNameT, context: RequestContext) -> EntryAttributes:
        directory = self._parent(parent, name, context)
        caller = Caller(context.uid, context.gid, context.pid)
        return self._table.enter(directory.view.make(directory, name, S_IFLNK | 0o777, caller, target=target))

    @handler
    def link(self, number: InodeT, parent: InodeT, name: FileNameT, context: RequestContext) -> EntryAttributes:
        inode = self._known.get(number)
        if inode is None:
            raise Refusal(errno.EPERM)
        directory = self._parent(parent, name, context)
        if directory.view is not inode.view:
            raise Refusal(errno.EXDEV)
        directory.view.link(inode, directory, name)
        return self._table.enter(inode)

    @handler
    def unlink(self, parent: InodeT, name: FileNameT, context: RequestContext) -> None:
        directory = self._known.get(parent)
        if directory is None:
            return self._namespace.unlink(parent, name, context)
        if self._filling:
            self._fillings.check(directory.view, context.pid)
        inode = directory.view.unlink(directory, name)
        if not inode.lookups:
            self._table.let_go(inode)
        return None

    @handler
    def rmdir(self, parent: InodeT, name: FileNameT, context: RequestContext) -> Coroutine[Any, Any, None] | None:
        directory = self._known.get(parent)
        if directory is None:
            return self._namespace.rmdir(parent, name, context)
        if directory.ino == ROOT_INO and is_reserved_name(name):
            raise Refusal(errno.EBUSY)
        if self._filling:
            self._fillings.check(directory.view, context.pid)
        inode = directory.view.rmdir(directory, name)
        if not inode.lookups:
            self._table.let_go(inode)
        return None

    @handler
    def rename(
        self,
        old_parent: InodeT,
        old_name: FileNameT,
        new_parent: InodeT,
        new_name: FileNameT,
        flags: FlagT,
        context: RequestContext,
    ) -> None:
        source, target = self._known.get(old_parent), self._known.get(new_parent)
        if source is None or target is None:
            return self._namespace.rename(old_parent, old_name, new_parent, new_name, flags, context)
        if source.ino == ROOT_INO and is_reserved_name(old_name):
            raise Refusal(errno.EBUSY)
        view = source.view
        if target.view is not view:
            raise Refusal(errno.EXDEV)
        if target.ino == ROOT_INO and is_reserved_name(new_name):
            raise Refusal(errno.EBUSY)
        if self._filling:
            self._fillings.check(view, context.pid)
        replaced = view.rename(source, old_name, target, new_name, flags)
        if replaced is not None and not replaced.lookups:
            self._table.let_go(replaced)
        return None

    @handler
    def readlink(self, number: InodeT, context: RequestContext) -> FileNameT:
        inode = self._inode(number, errno.EINVAL)
        if self._relatime:
            touch(inode)
        return FileNameT(inode.view.readlink(inode))

    def _parent(self, number: int, name: bytes, context: RequestContext) -> Inode:
        """The directory in which something is about to be made."""
        directory = self._known.get(number)
        if directory is None:
            raise Refusal(errno.EPERM)
        if directory.ino == ROOT_INO and is_reserved_name(name):
            raise Refusal(errno.EEXIST)
        if self._filling:
            self._fillings.check(directory.view, context.pid)
        return directory

    def _umask(self, context: RequestContext) -> int | None:
        """What a view needs of the caller's mask: with access control lists it is up to us, without the kernel has
        applied it."""
        return int(context.umask) if self._acl else None

    def _masked(self, mode: int, context: RequestContext) -> ModeT:
        """A mode where nothing is inherited."""
        return ModeT(mode & ~context.umask if self._acl else mode)

    def _inode(self, number: int, otherwise: int) -> Inode:
        """An inode of a view; for reserved names `otherwise` is the answer."""
        inode = self._known.get(number)
        if inode is None:
            raise Refusal(otherwise)
        return inode

    def _changeable(self, number: int, context: RequestContext) -> Inode:
        inode = self._inode(number, errno.EPERM)
        if self._filling:
            self._fillings.check(inode.view, context.pid)
        return inode

    # Attributes

    @handler
    def getattr(self, number: InodeT, context: RequestContext) -> EntryAttributes:
        inode = self._known.get(number)
        if inode is None:
            return self._namespace.getattr(number)
        return self._table.attributes(inode)

    @handler
    def setattr(
        self,
        number: InodeT,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: FileHandleT | None,
        context: RequestContext,
    ) -> EntryAttributes | Coroutine[Any, Any, EntryAttributes]:
        if number not in self._known:
            return self._namespace.setattr(number, fields)
        inode = self._changeable(number, context)
        chown = fields.update_uid or fields.update_gid or not _changes_anything(fields)
        strip = KEEP
        if (chown or fields.update_size) and S_IFMT(inode.mode) != S_IFDIR:
            strip = stripped(inode, context.uid, context.gid, context.pid, root_too=chown)
        inode.view.set_attributes(
            inode,
            mode=wanted.st_mode & _PERMISSION_BITS if fields.update_mode else None,
            uid=wanted.st_uid if fields.update_uid else None,
            gid=wanted.st_gid if fields.update_gid else None,
            size=wanted.st_size if fields.update_size else None,
            atime=wanted.st_atime_ns if fields.update_atime else None,
            mtime=wanted.st_mtime_ns if fields.update_mtime else None,
            ctime=wanted.st_ctime_ns if fields.update_ctime else None,
            strip_privileges=strip,
        )
        if inode.ino == ROOT_INO and (chown or fields.update_mode) and self.attributes_changed is not None:
            return self._tell(self.attributes_changed, inode)
        return self._table.attributes(inode)

    async def _tell(self, changed: Callable[[Inode], Coroutine[Any, Any, None]], inode: Inode) -> EntryAttributes:
        await changed(inode)
        return self._table.attributes(inode)

    @handler
    def access(self, number: InodeT, mode: ModeT, context: RequestContext) -> bool:
        raise FUSEError(errno.ENOSYS)

    @handler
    def statfs(self, context: RequestContext) -> StatvfsData:
        """The room that the store has. There can be as many inodes as blocks."""
        host = os.statvfs(self._store.path)
        available = max(0, host.f_bavail - self._store.kept_back // host.f_frsize)
        stat = StatvfsData()
        stat.f_bsize = stat.f_frsize = host.f_frsize
        stat.f_blocks, stat.f_bfree, stat.f_bavail = host.f_blocks, host.f_bfree, available
        blocks_in_inodes = max(host.f_frsize // _BLOCK_BYTES, 1)
        stat.f_files = host.f_blocks * blocks_in_inodes
        stat.f_ffree = stat.f_favail = available * blocks_in_inodes
        stat.f_namemax = NAME_BYTES_MAX
        return stat

    # Files

    @handler
    def open(self, number: InodeT, flags: FlagT, context: RequestContext) -> FileInfo | Coroutine[Any, Any, FileInfo]:
        inode = self._known.get(number)
        if inode is None:
            return self._namespace.open(number, flags, context)
        if flags & (O_ACCMODE | O_TRUNC):
            self._open_for_change(inode, flags, context)
        return self._opened(inode, flags, context)

    def _open_for_change(self, inode: Inode, flags: int, context: RequestContext) -> None:
        view = inode.view
        if view.read_only:
            raise Refusal(errno.EROFS)
        if self._filling:
            self._fillings.check(view, context.pid)
        if flags & O_TRUNC:
            strip = stripped(inode, context.uid, context.gid, context.pid)
            view.set_attributes(inode, size=0, strip_privileges=strip)
        if self._filling and flags & O_ACCMODE:
            self._fillings.opened(inode)

    def _opened(self, inode: Inode, flags: int, context: RequestContext) -> FileInfo:
        file = self._open_file(inode, flags, context.uid, context.gid, context.pid)
        # A read from the kernel's cache would not be noted: where the next one has to be, it must come to us.
        keep_cache = not self._relatime or not is_access_due(inode, now())
        return FileInfo(fh=FileHandleT(self._handles.add(file)), keep_cache=keep_cache)

    @handler
    def create(
        self, parent: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, context: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        if parent not in self._known:
            return self._namespace.create(parent, name, self._masked(mode, context), flags, context)
        directory = self._parent(parent, name, context)
        caller = Caller(context.uid, context.gid, context.pid)
        try:
            mode = ModeT(S_IFREG | mode & _PERMISSION_BITS)
            inode = directory.view.make(directory, name, mode, caller, umask=self._umask(context))
        except Refusal as refusal:
            if refusal.errno != errno.EEXIST or flags & O_EXCL:
                raise
            inode = self._existing(directory, name, flags, context)
        else:
            if self._filling and flags & O_ACCMODE:
                self._fillings.opened(inode)
        entry = self._table.enter(inode)
        return self._opened(inode, flags, context), entry

    def _existing(self, directory: Inode, name: bytes, flags: int, context: RequestContext) -> Inode:
        """The kernel took a name for free that has a file: it may be opened all the same."""
        inode = directory.view.lookup(directory, name)
        if inode is None or not inode.is_file:
            raise Refusal(errno.EEXIST)
        if flags & (O_ACCMODE | O_TRUNC):
            self._open_for_change(inode, flags, context)
        return inode

    @handler
    def read(  # type: ignore[override]  # a memoryview does as well
        self, handle: FileHandleT, offset: int, size: int
    ) -> Content | Coroutine[Any, Any, Content]:
        return self._files[handle].read(offset, size)

    @handler
    def write(self, handle: FileHandleT, offset: int, data: bytes) -> int | Coroutine[Any, Any, int]:
        if self._journal.head >= self._room.look_at and self._room.is_short():
            return self._write_later(handle, offset, data)
        return self._files[handle].write(offset, data)

    async def _write_later(self, handle: FileHandleT, offset: int, data: bytes) -> int:
        await self._room.make()
        written = self._files[handle].write(offset, data)
        return written if isinstance(written, int) else await written

    @handler
    def flush(self, handle: FileHandleT) -> None:
        # Nothing is due at close: every error was told at the write. The kernel does not ask again.
        if self._silent_close:
            raise FUSEError(errno.ENOSYS)

    @handler
    def release(self, handle: FileHandleT) -> None:
        file = self._handles.remove(handle)
        if isinstance(file, OpenFile):
            if file.writable and self._filling:
                self._fillings.closed(file.inode)
            if not file.inode.lookups:
                self._table.let_go(file.inode)

    @handler
    def fsync(self, handle: FileHandleT, only_data: bool) -> Coroutine[Any, Any, None] | None:
        return None if self._commits.at_once() else self._commits.wait()

    # Directories

    @handler
    def opendir(self, number: InodeT, context: RequestContext) -> FileHandleT:
        inode = self._known.get(number)
        if inode is None:
            return FileHandleT(self._namespace.opendir(number))
        directory = OpenDirectory(inode, self._table, relatime=self._relatime)
        if inode.ino == ROOT_INO:
            view = inode.view
            directory.hide_all = self._namespace.is_removal(view, context.pid)
            if self._list_magic and not directory.hide_all:
                directory.extra = lambda: self._namespace.reserved_entries(view)
        return FileHandleT(self._handles.add_directory(directory))

    @handler
    def readdir(self, handle: FileHandleT, start: int, token: ReaddirToken) -> None:
        self._handles.directories[handle].reply(start, token)

    @handler
    def releasedir(self, handle: FileHandleT) -> None:
        directory = self._handles.directories.pop(handle)
        directory.close()
        if isinstance(directory, OpenDirectory) and not directory.inode.lookups:
            self._table.let_go(directory.inode)

    @handler
    def fsyncdir(self, handle: FileHandleT, only_data: bool) -> Coroutine[Any, Any, None] | None:
        return None if self._commits.at_once() else self._commits.wait()

    # Extended attributes

    @handler
    def getxattr(self, number: InodeT, name: XAttrNameT, context: RequestContext) -> bytes | Coroutine[Any, Any, bytes]:
        if self._acl and name in ACLS:
            return self._get_acl(number, name)
        if not name.startswith(_NAMESPACES) or name == _SELINUX:
            # ENODATA would have `ls -l` ask again for every file.
            raise FUSEError(self._no_such_kind)
        inode = self._inode(number, errno.ENODATA)
        if name.startswith(NOTE):
            return self._notes.get(inode, name)
        if name.startswith(OURS):
            return self._digests.get(inode, name)
        return inode.view.get_xattr(inode, name)

    def _get_acl(self, number: int, name: bytes) -> bytes:
        inode = self._known.get(number)
        return self._namespace.acl(number, name) if inode is None else inode.view.get_xattr(inode, name)

    @handler
    def setxattr(
        self, number: InodeT, name: XAttrNameT, value: bytes, context: RequestContext
    ) -> Coroutine[Any, Any, None] | None:
        if name.startswith(NOTE):
            self._set_note(number, name, value, context)
            return None
        inode = self._changeable(number, context)
        if self._acl and name in ACLS:
            return self._set_acl(inode, name, value, context)
        _check_attribute(name)
        inode.view.set_xattr(inode, name, value, 0)
        return None

    def _set_acl(
        self, inode: Inode, name: bytes, value: bytes, context: RequestContext
    ) -> Coroutine[Any, Any, None] | None:
        member = context.uid == 0 or is_member(inode.gid, context.gid, context.pid)
        inode.view.set_acl(inode, name, value, keep_set_group_id=member)
        return self._acl_changed(inode)

    def _acl_changed(self, inode: Inode) -> Coroutine[Any, Any, None] | None:
        """The kernel drops what it knew of this inode itself."""
        if inode.ino == ROOT_INO and self.attributes_changed is not None:
            return self.attributes_changed(inode)
        return None

    def _set_note(self, number: int, name: bytes, value: bytes | None, context: RequestContext) -> None:
        inode = self._inode(number, errno.EPERM)
        self._notes.set(inode, name, value, Requester(context.uid, context.gid, context.pid))

    @handler
    def listxattr(self, number: InodeT, context: RequestContext) -> Sequence[XAttrNameT]:
        inode = self._known.get(number)
        if inode is None:
            return []
        names = [name for name in inode.view.list_xattrs(inode) if self._acl or name not in ACLS]
        names += self._notes.names(inode)
        return [XAttrNameT(name) for name in names if context.uid == 0 or not name.startswith(_TRUSTED)]

    @handler
    def removexattr(
        self, number: InodeT, name: XAttrNameT, context: RequestContext
    ) -> Coroutine[Any, Any, None] | None:
        if name.startswith(NOTE):
            self._set_note(number, name, None, context)
            return None
        inode = self._changeable(number, context)
        if self._acl and name in ACLS:
            inode.view.remove_acl(inode, name)
            return self._acl_changed(inode)
        _check_attribute(name)
        inode.view.remove_xattr(inode, name)
        return None


def _changes_anything(fields: SetattrFields) -> bool:
    """False for chown(file, -1, -1): it changes nothing but takes privileges away."""
    return (
        fields.update_mode or fields.update_uid or fields.update_gid or fields.update_size
        or fields.update_atime or fields.update_mtime or fields.update_ctime
    )  # fmt: skip


def _check_attribute(name: bytes) -> None:
    """Refuse names that nobody may set or remove."""
    if not name.startswith(_NAMESPACES):
        raise Refusal(errno.EOPNOTSUPP)
    if name.startswith(OURS):
        raise Refusal(errno.EPERM, "attributes of HeliosFS itself can only be read")
