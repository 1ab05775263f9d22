"""The verb import: what the caller has open is read here, which spares a request for every file.

The caller opens the source and says under which number; it is opened again through /proc/PID/fd, so it is what the
caller could open, seen from where the caller is. What lies in it is read with the rights of this process, hence the
verb is for root and for the user that this process runs as.
"""

import errno
import os
import select
from collections.abc import Iterator
from typing import Any, Final

import trio

from heliosfs.base.errors import Refusal
from heliosfs.fuse import magic, processes
from heliosfs.fuse.arguments import Arguments, text_of
from heliosfs.fuse.inode_table import InodeTable
from heliosfs.fuse.kernel_cache import KernelCache
from heliosfs.fuse.read_ahead import ReadAhead
from heliosfs.fuse.rights import Requester, check_is_owner
from heliosfs.fuse.stepwise import stepwise
from heliosfs.fuse.trees import Tree, Trees, container_number, name_of
from heliosfs.view.xattrs import ACLS
from heliosfs.volume.intake import Intake
from heliosfs.volume.path_restore import clean_paths
from heliosfs.volume.source import XATTRS, Batch, Item, batches, read_directory, read_tar, top_names
from heliosfs.volume.volume import Volume

_TOKENS_MAX: Final = 64


class _Import:
    """One that is under way."""

    def __init__(self, intake: Intake, tar: int) -> None:
        self.intake = intake
        self.tar = tar
        """The tar file that it reads, or -1."""
        self._stopped = False
        self._waiting = trio.CancelScope()

    def stop(self) -> None:
        """Take no more in; also when the source does not go on."""
        self._stopped = True
        self._waiting.cancel()

    async def next(self, reader: ReadAhead[Batch]) -> Batch | None:
        """What comes next; EINTR once it was stopped."""
        with trio.CancelScope() as self._waiting:
            if not self._stopped:
                return await reader.next()
        raise Refusal(errno.EINTR, "the import was interrupted")


class Importing:
    """Carries it out, and says how far it is."""

    def __init__(self, volume: Volume, trees: Trees, table: InodeTable, cache: KernelCache, acl: bool) -> None:
        self._volume = volume
        self._trees = trees
        self._table = table
        self._cache = cache
        self._acl = acl
        self._running: dict[str, _Import] = {}
        """By token."""

    async def progress(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        """Of the import that was begun with this token."""
        running = self._running.get(text_of(arguments, "token"))
        if running is None:
            return {}
        read = os.lseek(running.tar, 0, os.SEEK_CUR) if running.tar >= 0 else 0
        return {"files": running.intake.files, "bytes": running.intake.bytes, "read": read}

    async def stop(self, tree: Tree, arguments: Arguments, requester: Requester) -> None:
        """Have the import that was begun with this token leave off, and take back what has come in."""
        check_is_owner(tree.root, requester)
        running = self._running.get(text_of(arguments, "token"))
        if running is not None:
            running.stop()

    async def perform(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        check_is_owner(tree.root, requester)
        if requester.uid not in (0, os.geteuid()):
            raise Refusal(errno.EPERM, "import is for root and for the user who mounted; use cp -a")
        branch = tree.branch()
        [path] = clean_paths([name_of(text_of(arguments, "path", "."))])
        what, token = text_of(arguments, "what", "import"), text_of(arguments, "token", "")
        tar = bool(arguments.get("tar"))
        # In a worker thread, like all that is done with it: the source may be in this very mount.
        descriptor = await trio.to_thread.run_sync(_opened, requester.pid, arguments.get("descriptor"), tar)
        caller = processes.identity(requester.pid).process
        try:
            watch = os.pidfd_open(caller)
        except OSError as error:
            await trio.to_thread.run_sync(os.close, descriptor)
            raise Refusal(errno.EPERM, "who asked for the import has ended") from error
        try:
            # What root owns there only root may own here.
            keep_owner = os.geteuid() == 0 and requester.uid == 0
            intake = Intake(self._volume, branch, path, requester.caller(), keep_owner)
            running = _Import(intake, descriptor if tar else -1)
            if len(self._running) < _TOKENS_MAX:
                self._running[token] = running
            try:
                # That there is no such name may be known to the kernel.
                await self._announce(intake)
                await self._take(running, await self._items(intake, descriptor, tar), watch)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await stepwise(intake.undo())
                    await self._announce(intake)
                raise
            number = intake.finish(what, text_of(arguments, "origin", ""))
            await self._announce(intake)
            tree.note_change(magic.SNAPSHOTS)
            await self._cache.forget(attributes=[container_number(tree, magic.SNAPSHOTS)])
            return {"operation": number, "files": intake.files, "bytes": intake.bytes}
        finally:
            self._running.pop(token, None)
            os.close(watch)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(os.close, descriptor)

    async def _items(self, intake: Intake, descriptor: int, tar: bool) -> Iterator[Item]:
        xattrs = XATTRS + ACLS if self._acl else XATTRS
        if tar:
            return read_tar(os.fdopen(os.dup(descriptor), "rb"), xattrs)
        intake.check(await trio.to_thread.run_sync(top_names, descriptor))
        return read_directory(descriptor, _device(self._trees.device), xattrs)

    async def _take(self, running: _Import, items: Iterator[Item], watch: int) -> None:
        reader = ReadAhead(batches(items))
        try:
            while (batch := await running.next(reader)) is not None:
                if select.select([watch], [], [], 0)[0]:
                    raise Refusal(errno.EINTR, "who asked for the import has ended")
                await stepwise(running.intake.take(batch))
        finally:
            reader.close()

    async def _announce(self, intake: Intake) -> None:
        """Have the kernel look again at what it may know of the directories that were filled."""
        view = self._volume.view_of(intake.branch)
        known = [view.inodes.get(ino) for ino in intake.directories.values()]
        numbers = [self._table.number(inode) for inode in known if inode is not None and inode.lookups]
        parent = view.resolve(intake.path.rpartition(b"/")[0])
        above = self._table.number(parent)
        names = [(above, intake.path.rpartition(b"/")[2])] if intake.path != b"." else []
        if intake.directories[0] in view.inodes:
            target = self._table.number(view.inodes[intake.directories[0]])
            names += [(target, name) for name in intake.names]
        if self._cache.expire_names():
            names = []
        await self._cache.forget(numbers, [above], names)


def _opened(pid: int, descriptor: object, is_tar: bool) -> int:
    """What the caller has open, opened for this process."""
    if not isinstance(descriptor, int) or descriptor < 0:
        raise Refusal(errno.EINVAL, "descriptor is the number of what the caller has open")
    if not pid:
        raise Refusal(errno.EPERM, "a process that cannot be seen from here cannot import; use cp -a")
    # A pipe is opened without waiting for who writes into it.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if is_tar else os.O_DIRECTORY)
    try:
        opened = os.open(f"/proc/{pid}/fd/{descriptor}", flags)
        os.set_blocking(opened, True)
    except OSError as error:
        raise Refusal(error.errno or errno.EIO, f"the source cannot be opened here: {error.strerror}") from error
    return opened


def _device(text: str) -> int:
    """The number of a device that is written major:minor."""
    major, _, minor = text.partition(":")
    return os.makedev(int(major), int(minor)) if minor else -1
