"""What file operations mean at the reserved names of a tree root: .snapshots, .branches and .heliosfs.

A tree is a branch or a snapshot; its root has the three names. Their inode numbers are fixed within the
tree's view, so a number says which tree and which name is meant; a tree becomes known here when its root is
looked up, which is the only way to it.

Invariants:
  1. Nothing here is in a view: a view never has an entry with a reserved name in its root.
  2. What is not said to work is refused: EPERM, EROFS inside snapshots, EXDEV where a program may copy
     instead.
"""

import errno
import os
from collections.abc import Callable, Coroutine
from stat import S_IFDIR, S_IFREG
from typing import Any, Final

from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, InodeT, ModeT, RequestContext, SetattrFields

from heliosfs.base.errors import Refusal
from heliosfs.fuse import magic, processes
from heliosfs.fuse.control import Control
from heliosfs.fuse.filling import Fillings
from heliosfs.fuse.handles import Handles, OpenFile
from heliosfs.fuse.inode_table import InodeTable, absent_for
from heliosfs.fuse.kernel_cache import KernelCache
from heliosfs.fuse.made import Found, MadeDirectory
from heliosfs.fuse.numbers import is_reserved, pack, unpack
from heliosfs.fuse.reports import Report, Reports
from heliosfs.fuse.rights import Requester, check_may_write
from heliosfs.fuse.trees import Source, Tree, Trees, top_inode
from heliosfs.view.acl import ACCESS
from heliosfs.view.inode import Caller, Inode
from heliosfs.view.names import NOREPLACE
from heliosfs.view.view import View
from heliosfs.volume.branch import Branch, Snapshot
from heliosfs.volume.volume import Volume

REMOVER: Final = b"rm"

_DIRECTORIES: Final = {magic.SNAPSHOTS: b".snapshots", magic.BRANCHES: b".branches", magic.AUTO: magic.AUTO_NAME}

Waiting = Coroutine[Any, Any, EntryAttributes]


class Namespace:
    """Answers requests on inodes that are in no view."""

    def __init__(
        self,
        volume: Volume,
        trees: Trees,
        table: InodeTable,
        handles: Handles,
        cache: KernelCache,
        fillings: Fillings,
        control: Control,
        copiers: frozenset[bytes],
    ) -> None:
        self._volume = volume
        self._trees = trees
        self._table = table
        self._handles = handles
        self._cache = cache
        self._fillings = fillings
        self._control = control
        self._copiers = copiers
        self._reports = Reports()
        self._absent = absent_for(0)

    # Looking

    def reserved(self, view: View, name: bytes) -> EntryAttributes | None:
        """The attributes of a reserved name of a tree root, if it is one."""
        ino = magic.ROOT_NAMES.get(name)
        if ino is None:
            return None
        return self._attributes(self._trees.of(view), ino)

    def reserved_entries(self, view: View) -> list[tuple[bytes, EntryAttributes]]:
        """All three, for a listing that shows them."""
        tree = self._trees.of(view)
        return [(name, self._attributes(tree, ino)) for name, ino in magic.ROOT_NAMES.items()]

    def lookup(self, parent: int, name: bytes) -> EntryAttributes:
        tree, ino = self._node(parent)
        if ino == magic.SNAPSHOTS and name == magic.AUTO_NAME and isinstance(tree.source, Branch):
            return self._attributes(tree, magic.AUTO)
        if ino in magic.CONTAINERS:
            inode = self._member(tree, ino, name)
            return self._absent if inode is None else self._table.enter(inode)
        if ino == magic.CONTROL:
            child = magic.CONTROL_NAMES.get(name)
            return self._absent if child is None else self._attributes(tree, child)
        if ino in magic.REPORTS:
            if not self._control.has_report(tree, name):
                return self._absent
            report = self._reports.enter(tree.view.number, ino, name)
            return self._report_attributes(tree, report)
        raise Refusal(errno.ENOTDIR)

    def getattr(self, number: int) -> EntryAttributes:
        tree, ino = self._node(number)
        report = self._reports.get(number)
        return self._attributes(tree, ino) if report is None else self._report_attributes(tree, report)

    def acl(self, number: int, name: bytes) -> bytes:
        """An access control list: .snapshots and .branches have the root directory's, as they have its mode."""
        tree, ino = self._node(number)
        if ino not in magic.CONTAINERS or name != ACCESS:
            raise Refusal(errno.ENODATA)
        return tree.view.get_xattr(tree.root, name)

    def forget(self, number: int, lookups: int) -> None:
        self._reports.forget(number, lookups)

    def setattr(self, number: int, fields: SetattrFields) -> EntryAttributes:
        """Truncating a verb's file is what `>` in a shell does; nothing else can be set."""
        entry = self.getattr(number)
        only_size = fields.update_size and not (fields.update_mode or fields.update_uid or fields.update_gid)
        if not only_size:
            raise Refusal(errno.EPERM)
        return entry

    # Making

    def mkdir(self, parent: int, name: bytes, mode: int, context: RequestContext) -> EntryAttributes | Waiting:
        tree, ino = self._node(parent)
        make = {magic.SNAPSHOTS: self._make_snapshot, magic.BRANCHES: self._make_branch}.get(ino)
        if make is None:
            raise Refusal(errno.EPERM)
        caller = self._writer(tree, context)
        if caller.command in self._copiers:
            return make(tree, name, mode, caller, True)
        if self._handles.mappable:
            return self._after_write_back(lambda: make(tree, name, mode, caller, False))
        return make(tree, name, mode, caller, False)

    async def _after_write_back(self, make: Callable[[], EntryAttributes]) -> EntryAttributes:
        await self._cache.write_back()
        return make()

    def _make_snapshot(self, tree: Tree, name: bytes, mode: int, caller: Caller, empty: bool) -> EntryAttributes:
        branch = tree.branch()
        if not empty:
            return self._enter(tree, magic.SNAPSHOTS, self._volume.snapshot(branch, name, caller))
        snapshot = self._begin_filling(branch, name, caller, until_closed=False)
        view = self._volume.view_of(snapshot)
        view.set_attributes(view.root, mode=mode, uid=caller.uid, gid=caller.gid)
        return self._enter(tree, magic.SNAPSHOTS, snapshot)

    def _make_branch(self, tree: Tree, name: bytes, mode: int, caller: Caller, empty: bool) -> EntryAttributes:
        branch = self._volume.fork(tree.source, name, caller, empty=empty)
        if empty:
            branch.view.set_attributes(branch.view.root, mode=mode, uid=caller.uid, gid=caller.gid)
        return self._enter(tree, magic.BRANCHES, branch)

    def create(
        self, parent: int, name: bytes, mode: int, flags: int, context: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """A file made in .snapshots is a snapshot of that one file."""
        tree, ino = self._node(parent)
        if ino != magic.SNAPSHOTS:
            raise Refusal(errno.EPERM)
        caller = self._writer(tree, context)
        # A copier sets owner, mode and times after closing; anybody else is done then.
        until_closed = caller.command not in self._copiers
        snapshot = self._begin_filling(tree.branch(), name, caller, until_closed=until_closed)
        view = self._volume.view_of(snapshot)
        inode = view.make(view.root, name, S_IFREG | mode & 0o7777, caller)
        view.forget(view.root)  # which nobody will ever look up
        self._volume.set_snapshot_file(snapshot, inode.ino)
        entry = self._enter(tree, magic.SNAPSHOTS, snapshot)
        file = OpenFile(inode, flags, caller.uid, caller.gid, caller.pid)
        if file.writable:
            self._fillings.opened(inode)
        elif until_closed:
            self._fillings.end(view.number)
        return FileInfo(fh=FileHandleT(self._handles.add(file))), entry

    def _begin_filling(self, branch: Branch, name: bytes, caller: Caller, *, until_closed: bool) -> Snapshot:
        process = processes.identity(caller.pid).process
        # A process in another pid namespace has no number here: then this daemon's stands in for it.
        snapshot = self._volume.snapshot(branch, name, caller, empty=True, filling=process or os.getpid())
        view = self._volume.view_of(snapshot)
        self._fillings.begin(snapshot, view, process, caller.command, until_closed=until_closed)
        return snapshot

    # Removing and renaming

    def unlink(self, parent: int, name: bytes, context: RequestContext) -> None:
        tree, ino = self._node(parent)
        if ino != magic.SNAPSHOTS:
            raise Refusal(errno.EPERM)
        self._drop_snapshot(tree, name, context)

    def rmdir(self, parent: int, name: bytes, context: RequestContext) -> Coroutine[Any, Any, None] | None:
        tree, ino = self._node(parent)
        if ino == magic.SNAPSHOTS:
            if name == magic.AUTO_NAME:
                raise Refusal(errno.EBUSY)
            self._drop_snapshot(tree, name, context)
            return None
        if ino == magic.AUTO:
            self._writer(tree, context)
            self._volume.drop_timed(tree.branch(), name)
            return None
        if ino == magic.BRANCHES:
            return self._drop_branch(tree, name, context)
        raise Refusal(errno.EPERM)

    def _drop_snapshot(self, tree: Tree, name: bytes, context: RequestContext) -> None:
        caller = self._writer(tree, context)
        self._volume.drop_snapshot(tree.branch(), name, caller)
        tree.note_change(magic.SNAPSHOTS)

    async def _drop_branch(self, tree: Tree, name: bytes, context: RequestContext) -> None:
        caller = self._writer(tree, context)
        branch = tree.children().get(name)
        if branch is not None:
            await self._trees.check_not_mounted(branch)
        self._volume.drop_branch(tree.owner(), name, caller)
        tree.note_change(magic.BRANCHES)

    def rename(
        self,
        old_parent: int,
        old_name: bytes,
        new_parent: int,
        new_name: bytes,
        flags: int,
        context: RequestContext,
    ) -> None:
        if old_parent != new_parent:
            raise Refusal(errno.EXDEV)
        tree, ino = self._node(old_parent)
        if ino not in (magic.SNAPSHOTS, magic.BRANCHES):
            raise Refusal(errno.EPERM)
        if ino == magic.SNAPSHOTS and old_name == magic.AUTO_NAME:
            raise Refusal(errno.EBUSY)
        if flags not in (0, NOREPLACE):
            raise Refusal(errno.EINVAL)
        caller = self._writer(tree, context)
        if ino == magic.SNAPSHOTS:
            self._volume.rename_snapshot(tree.branch(), old_name, new_name, caller)
        else:
            self._volume.rename_branch(tree.owner(), old_name, new_name, caller)
        tree.note_change(ino)

    def is_removal(self, view: View, thread: int) -> bool:
        """Whether whoever lists the root of a snapshot or branch is an `rm -r` of it: it goes on to rmdir."""
        if processes.command(thread) != REMOVER:
            return False
        tree = self._trees.of(view)
        if tree.source is self._trees.mounted:
            return False
        _, container = self._trees.container(tree.source)
        directory = _DIRECTORIES[container]
        process = processes.identity(thread).process
        here = processes.working_directory(process)
        for argument in processes.arguments(process)[1:]:
            words = os.path.normpath(os.path.join(here, argument)).split(b"/")
            if words[-1] == directory or words[-2:] == [directory, tree.source.name]:
                return True
        return False

    # Opening

    def open(self, number: int, flags: int, context: RequestContext) -> FileInfo | Coroutine[Any, Any, FileInfo]:
        tree, ino = self._node(number)
        requester = Requester(context.uid, context.gid, context.pid)
        report = self._reports.get(number)
        if report is not None:
            return self._open_report(tree, report, requester)
        file = self._control.open(tree, ino, requester)
        return FileInfo(fh=FileHandleT(self._handles.add(file)), direct_io=True)

    async def _open_report(self, tree: Tree, report: Report, requester: Requester) -> FileInfo:
        file = await self._control.open_report(tree, report, requester)
        return FileInfo(fh=FileHandleT(self._handles.add(file)), direct_io=True)

    def opendir(self, number: int) -> int:
        tree, ino = self._node(number)
        own = self._attributes(tree, ino)
        if ino in magic.CONTAINERS:
            members = tree.members(ino)
            directory = MadeDirectory(
                self._table, own, lambda: sorted(members), lambda name: self._member(tree, ino, name)
            )
        elif ino == magic.CONTROL:
            directory = MadeDirectory(
                self._table,
                own,
                lambda: list(magic.CONTROL_NAMES),
                lambda name: self._control_file(tree, name),
            )
        else:
            directory = MadeDirectory(self._table, own, list, lambda name: None)
        return self._handles.add_directory(directory)

    # Inside

    def _node(self, number: int) -> tuple[Tree, int]:
        """Which tree and which reserved name a number means; ESTALE for numbers of inodes that are gone."""
        view_number, ino = unpack(number)
        if not is_reserved(ino):
            raise Refusal(errno.ESTALE)
        return self._trees.get(view_number), ino

    def _member(self, tree: Tree, container: int, name: bytes) -> Inode | None:
        member = self._trees.member(tree, container, name)
        return None if member is None else top_inode(member)

    def _enter(self, tree: Tree, container: int, source: Source) -> EntryAttributes:
        """A tree that was just made, as the answer to who made it."""
        tree.note_change(container)
        return self._table.enter(top_inode(self._trees.add(source)))

    def _writer(self, tree: Tree, context: RequestContext) -> Caller:
        requester = Requester(context.uid, context.gid, context.pid)
        check_may_write(tree.root, requester)
        return requester.caller()

    def _control_file(self, tree: Tree, name: bytes) -> Found:
        return self._attributes(tree, magic.CONTROL_NAMES[name])

    def _attributes(self, tree: Tree, ino: int) -> EntryAttributes:
        root = tree.root
        entry = self._owned(tree, pack(tree.view.number, ino))
        if ino in magic.CONTAINERS:
            entry.st_mode = ModeT(S_IFDIR | root.mode & 0o7777)
            entry.st_nlink = 2 + len(tree.members(ino))
            entry.st_mtime_ns = entry.st_ctime_ns = tree.changed_at(ino)
            if ino == magic.AUTO:
                # It changes by itself, and nobody is told.
                entry.attr_timeout = 0
                newest = next(reversed(tree.timed().values()), None)
                if newest is not None:
                    entry.st_mtime_ns = entry.st_ctime_ns = newest.created
        elif ino in magic.MODES:
            entry.st_mode = ModeT(magic.MODES[ino])
        else:
            raise Refusal(errno.ESTALE)
        if ino == magic.CONTROL:
            entry.st_nlink = 2 + len(magic.REPORTS)
        elif ino in magic.REPORTS:
            entry.st_nlink = 2
        return entry

    def _report_attributes(self, tree: Tree, report: Report) -> EntryAttributes:
        entry = self._owned(tree, report.number)
        entry.st_mode = ModeT(magic.REPORT_MODE)
        return entry

    def _owned(self, tree: Tree, number: int) -> EntryAttributes:
        """What all attributes here have in common."""
        root = tree.root
        entry = EntryAttributes()
        entry.st_ino = InodeT(number)
        entry.generation = self._table.generation(tree.view)
        entry.entry_timeout = entry.attr_timeout = self._table.timeout
        entry.st_uid, entry.st_gid = root.uid, root.gid
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = tree.source.created
        return entry
