"""What is said of snapshots and kept for the volume: notes, holds, settings, the states that are kept by themselves.

The notes of a snapshot are the attributes `user.heliosfs.note.KEY` of its root: the one thing of a snapshot that may
change. Whoever may make snapshots in a tree may set them.
"""

import errno
from typing import Any, Final

from heliosfs.base.errors import Refusal
from heliosfs.base.keys import ROOT_INO
from heliosfs.fuse import magic
from heliosfs.fuse.arguments import Arguments, name_in, text_of
from heliosfs.fuse.content_digest import PREFIX
from heliosfs.fuse.errors import Faults
from heliosfs.fuse.kernel_cache import KernelCache
from heliosfs.fuse.numbers import pack
from heliosfs.fuse.rights import Requester, check_is_owner, check_may_write
from heliosfs.fuse.trees import Tree, Trees, name_of, text
from heliosfs.view.inode import Inode
from heliosfs.volume import annotations, settings
from heliosfs.volume.branch import Snapshot
from heliosfs.volume.volume import Volume

NOTE: Final = PREFIX + b"note."


def find_snapshot(tree: Tree, name: bytes) -> Snapshot:
    """A snapshot of a tree; ENOENT when there is none of that name."""
    snapshot = tree.snapshots().get(name)
    if snapshot is None:
        raise Refusal(errno.ENOENT, f"there is no snapshot named {text(name)!r}")
    return snapshot


class Notes:
    """The notes of snapshots as extended attributes."""

    def __init__(self, volume: Volume, trees: Trees) -> None:
        self._volume = volume
        self._trees = trees

    def get(self, inode: Inode, name: bytes) -> bytes:
        """The value of an attribute whose name begins with NOTE."""
        snapshot = self._snapshot(inode)
        value = None if snapshot is None else snapshot.record.notes.get(text(name.removeprefix(NOTE)))
        if value is None:
            raise Refusal(errno.ENODATA)
        return name_of(value)

    def names(self, inode: Inode) -> list[bytes]:
        """The names of all notes of an inode."""
        snapshot = self._snapshot(inode) if inode.view.read_only else None
        return [] if snapshot is None else [NOTE + name_of(key) for key in sorted(snapshot.record.notes)]

    def set(self, inode: Inode, name: bytes, value: bytes | None, requester: Requester) -> None:
        """Put a note on a snapshot, or with None take it away."""
        snapshot = self._snapshot(inode)
        if snapshot is None:
            raise Refusal(errno.EPERM, "notes can be put on the root of a snapshot alone")
        check_may_write(snapshot.branch.view.root, requester)
        key = text(name.removeprefix(NOTE))
        registry, caller = self._volume.registry, requester.caller()
        if value is None:
            annotations.remove_note(registry, snapshot, key, caller)
        else:
            annotations.set_note(registry, snapshot, key, text(value), caller)

    def _snapshot(self, inode: Inode) -> Snapshot | None:
        """The named snapshot of which an inode is the root, or the one file."""
        try:
            source = self._trees.of(inode.view).source
        except Refusal:
            return None
        if not isinstance(source, Snapshot) or source.timed:
            return None
        return source if inode.ino == (source.file or ROOT_INO) else None


class Keeping:
    """The verbs for holds and settings."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    async def hold(self, tree: Tree, arguments: Arguments, requester: Requester) -> None:
        check_may_write(tree.root, requester)
        snapshot = find_snapshot(tree, name_in(arguments))
        annotations.hold(self._volume.registry, snapshot, requester.caller())

    async def release(self, tree: Tree, arguments: Arguments, requester: Requester) -> None:
        check_may_write(tree.root, requester)
        snapshot = find_snapshot(tree, name_in(arguments))
        annotations.release(self._volume.registry, snapshot, requester.caller())

    async def config(self, tree: Tree, arguments: Arguments, requester: Requester) -> list[dict[str, Any]]:
        """All settings, one, or one that is set: for the owner of the whole volume, as it counts for all of it."""
        registry = self._volume.registry
        if arguments.get("key") is None:
            return [settings.as_json(registry, name) for name in settings.SETTINGS]
        name = text_of(arguments, "key")
        if arguments.get("value") is not None:
            check_is_owner(self._volume.main.view.root, requester)
            settings.put(registry, tree.branch(), name, text_of(arguments, "value"), requester.caller())
        return [settings.as_json(registry, name)]


class Timekeeper:
    """Runs the time machine of a mounted volume."""

    def __init__(self, volume: Volume, cache: KernelCache, faults: Faults) -> None:
        self._volume = volume
        self._cache = cache
        self._faults = faults

    async def run_if_due(self) -> None:
        """Called several times a second: a comparison, unless something was written."""
        machine = self._volume.time_machine
        if self._volume.store.read_only:
            return
        if machine.due():
            try:
                machine.run()
            except Exception as error:
                self._faults.errno_of(error, "keeping a state by itself")
        if machine.dropped:
            await self.forget_dropped()

    async def forget_dropped(self) -> None:
        """Have the kernel let go of the states that are no longer kept."""
        machine = self._volume.time_machine
        dropped, machine.dropped = machine.dropped, []
        names = [
            (pack(each.branch.view.number, magic.AUTO), each.name) for each in dropped if each.view is not None
        ]
        if names:
            await self._cache.forget(names=names)
