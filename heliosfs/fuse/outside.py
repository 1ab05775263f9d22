"""The verbs behind export and apply. The commands copy by themselves, with the rights of who calls them, from the
directories that these verbs name."""

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

from heliosfs.base.errors import Refusal
from heliosfs.fuse.arguments import Arguments, name_in, paths_of, text_of
from heliosfs.fuse.handles import Handles
from heliosfs.fuse.kernel_cache import KernelCache
from heliosfs.fuse.rights import Requester, check_is_owner, check_may_write
from heliosfs.fuse.stepwise import stepwise
from heliosfs.fuse.trees import Tree, name_of
from heliosfs.volume import origins, working_states
from heliosfs.volume.branch import Branch
from heliosfs.volume.changes import as_json, changes
from heliosfs.volume.draft import frozen
from heliosfs.volume.time_machine import is_kept
from heliosfs.volume.volume import Volume


class Outside:
    """Carries them out."""

    def __init__(
        self, volume: Volume, cache: KernelCache, handles: Handles, flush: Callable[[], Awaitable[None]]
    ) -> None:
        self._flush = flush
        self._volume = volume
        self._cache = cache
        self._handles = handles

    async def show(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        """Where a state is a directory: `path` from the root of the tree, `made` when `hide` has to follow."""
        branch, word = tree.branch(), text_of(arguments, "state")
        if name_of(word) not in branch.snapshots:
            check_may_write(tree.root, requester)
            if self._volume.store.read_only:
                raise Refusal(errno.EROFS, "on a volume that is mounted read-only only snapshots can be exported")
            await self._write_back()
        place = working_states.show(self._volume.registry, branch, word, requester.caller())
        return {"path": os.fsdecode(place.path), "made": place.made is not None}

    async def hide(self, tree: Tree, arguments: Arguments, requester: Requester) -> None:
        """Take away what `show` or `begin` made, by its path."""
        branch = tree.branch()
        path = name_of(text_of(arguments, "path")).split(b"/")
        while path[0] == b".branches" and len(path) > 2 and path[1] in branch.children:
            branch, path = branch.children[path[1]], path[2:]
        check_may_write(branch.view.root, requester)
        state = branch.timed.get(path[-1])
        if state is None or is_kept(state):
            raise Refusal(errno.ENOENT, f"nothing was made at {text_of(arguments, 'path')}")
        self._volume.drop_timed(branch, state.name)

    async def begin(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        """What an apply has to do: the directories of the base and of the state to apply, and what differs."""
        branches, above = _way(tree, text_of(arguments, "branch"))
        branch = branches[-1]
        check_is_owner(branch.view.root, requester)
        await self._write_back()
        registry = self._volume.registry
        base = origins.find(registry, branches, branch, text_of(arguments, "directory"))
        path = origins.path_of(base)
        state = frozen(registry, branch)
        found = changes(registry.engine, base.state, state, [name_of(path)], flat=True)
        place = working_states.make(registry, branch, state, requester.caller(), above)
        way = b"".join(b".branches/%b/" % each.name for each in branches[1 : branches.index(base.branch) + 1])
        return {
            "base": os.fsdecode(b"%b.snapshots/%b" % (way, base.name)),
            "state": os.fsdecode(place.path),
            "path": path,
            "changes": [as_json(change) for change in found],
        }

    async def take(self, tree: Tree, arguments: Arguments, requester: Requester) -> None:
        """Take in what the base has at some paths, before it is overwritten there."""
        check_is_owner(tree.root, requester)
        if self._volume.taking_in.needed():
            await stepwise(self._volume.taking_in.take(paths_of(arguments)))
            await self._flush()

    async def end(self, tree: Tree, arguments: Arguments, requester: Requester) -> None:
        """Note that all was written: the next apply compares with this state."""
        branches, _ = _way(tree, text_of(arguments, "branch"))
        branch = branches[-1]
        check_is_owner(branch.view.root, requester)
        state = branch.timed.get(name_in(arguments, "state"))
        if state is None or is_kept(state):
            raise Refusal(errno.ENOENT, "this apply has not begun")
        registry = self._volume.registry
        base = origins.find(registry, branches, branch, text_of(arguments, "directory"))
        origins.applied(registry, branch, state.state.id, base, requester.caller())

    async def _write_back(self) -> None:
        if self._handles.mappable:
            await self._cache.write_back()


def _way(tree: Tree, word: str) -> tuple[list[Branch], bytes]:
    """The branches from a tree down to one below it, and the path of that one's root."""
    found = [tree.branch()]
    above = b""
    for name in name_of(word).split(b"/"):
        if name not in (b"", b"."):
            if name not in found[-1].children:
                raise Refusal(errno.ENOENT, f"there is no branch named {word!r}")
            found.append(found[-1].children[name])
            above += b".branches/%b/" % name
    return found, above
