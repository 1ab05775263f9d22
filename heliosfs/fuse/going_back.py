"""The verbs restore and undo: a tree, or some paths of it, as it was."""

import errno
from collections.abc import Callable
from typing import Any

from heliosfs.base.errors import Refusal
from heliosfs.fuse import magic
from heliosfs.fuse.arguments import Arguments, paths_of, text_of
from heliosfs.fuse.handles import Handles
from heliosfs.fuse.kernel_cache import KernelCache
from heliosfs.fuse.rights import Requester, check_is_owner
from heliosfs.fuse.switching import Switcher
from heliosfs.fuse.trees import Tree, name_of
from heliosfs.volume.branch import Branch
from heliosfs.volume.changes import as_json
from heliosfs.volume.volume import Volume

Tell = Callable[[Branch, dict[str, Any]], dict[str, Any]]
"""Keeps what an operation did, for `status`, and returns it."""


class GoingBack:
    """Carries them out."""

    def __init__(
        self, volume: Volume, cache: KernelCache, handles: Handles, switcher: Switcher, report: Tell
    ) -> None:
        self._volume = volume
        self._cache = cache
        self._handles = handles
        self._switcher = switcher
        self._report = report

    async def restore(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        check_is_owner(tree.root, requester)
        branch = tree.branch()
        word, paths = text_of(arguments, "state"), paths_of(arguments)
        _check_restorable(branch, word)
        if arguments.get("dry_run"):
            if self._handles.mappable:
                await self._cache.write_back()
            found = self._volume.restore_changes(branch, word, paths)
            shown = {"verb": "restore", "state": word, "dry_run": True}
            return {**shown, "changes": [as_json(change) for change in found]}
        self._volume.state(branch, word)
        changed: set[int] = set()
        found = []

        def act() -> list[tuple[Branch, set[int]]]:
            nonlocal changed, found
            if paths:
                found, changed = self._volume.restore_paths(branch, word, paths, requester.caller())
            else:
                changed = self._volume.restore(branch, word, requester.caller())
            return [(branch, changed)]

        await self._switcher.switch(branch, act)
        report: dict[str, Any] = {"verb": "restore", "state": word, "inodes": len(changed)}
        if not paths:
            return self._report(branch, report)
        self._report(branch, {**report, "changes": len(found)})
        return {**report, "changes": [as_json(change) for change in found]}

    async def undo(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        check_is_owner(tree.root, requester)
        branch = tree.branch()
        number = arguments.get("operation")
        if number is not None and not isinstance(number, int):
            raise Refusal(errno.EINVAL, "operation is the number of an operation")
        await self._switcher.switch(branch, lambda: self._volume.undo(branch, requester.caller(), number))
        newest = self._volume.log(branch)[-1]
        for container in magic.CONTAINERS:
            tree.note_change(container)
        return self._report(branch, {"verb": "undo", "what": newest.text})


def _check_restorable(branch: Branch, word: str) -> None:
    """Refuse a snapshot that is no finished tree."""
    snapshot = branch.snapshots.get(name_of(word))
    if snapshot is not None and snapshot.filling:
        raise Refusal(errno.EBUSY, f"the snapshot {word!r} is still being filled")
    if snapshot is not None and snapshot.file:
        raise Refusal(errno.ENOTDIR, f"the snapshot {word!r} is one file, not a tree")
