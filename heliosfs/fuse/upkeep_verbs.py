"""The verbs that look after the store: gc."""

import errno
from typing import Any, Final

from heliosfs.base.errors import Refusal
from heliosfs.fuse.collecting import Collecting
from heliosfs.fuse.errors import Faults
from heliosfs.fuse.filling import Spawn
from heliosfs.fuse.rights import Requester, check_is_owner
from heliosfs.fuse.trees import Tree
from heliosfs.volume.collection import Rounds
from heliosfs.volume.volume import Volume

KEEP_SECONDS_MAX: Final = 100 * 366 * 86400
"""More than anybody means. JSON knows numbers without end, too."""


class UpkeepVerbs:
    """Carries them out. They concern the whole store, so they are for its owner: that of the main branch's root."""

    def __init__(self, volume: Volume, collecting: Collecting, faults: Faults) -> None:
        self.spawn: Spawn | None = None
        self._volume = volume
        self._collecting = collecting
        self._faults = faults

    async def gc(self, tree: Tree, arguments: dict[str, Any], requester: Requester) -> dict[str, Any]:
        """Collect, and return what that found; with `"wait": false` return at once, see `gc.status`."""
        check_is_owner(self._volume.main.view.root, requester)
        if self._volume.store.read_only:
            raise Refusal(errno.EROFS, "the volume is mounted read-only")
        dry_run, keep = bool(arguments.get("dry_run")), arguments.get("keep_undo_seconds")
        if keep is not None and not (type(keep) in (int, float) and 0 <= keep <= KEEP_SECONDS_MAX):
            raise Refusal(errno.EINVAL, "keep_undo_seconds is a number of seconds")
        await self._collecting.make_way()
        rounds = self._collecting.begin()
        if arguments.get("wait", True):
            return await self._collecting.run(rounds, dry_run=dry_run, keep_undo_seconds=keep)
        assert self.spawn is not None
        self.spawn(lambda: self._run(rounds, dry_run, keep))
        return self._collecting.status()

    async def _run(self, rounds: Rounds, dry_run: bool, keep_undo_seconds: float | None) -> None:
        """What goes wrong is told by `gc.status`."""
        try:
            await self._collecting.run(rounds, dry_run=dry_run, keep_undo_seconds=keep_undo_seconds)
        except Refusal:
            return
        except Exception as error:
            self._faults.errno_of(error, "a collection")

    async def gc_status(self, tree: Tree, arguments: dict[str, Any], requester: Requester) -> dict[str, Any]:
        """How far a collection is, and what the last one found."""
        return self._collecting.status()

    async def gc_stop(self, tree: Tree, arguments: dict[str, Any], requester: Requester) -> dict[str, Any]:
        """Stop the collection that is going on."""
        check_is_owner(self._volume.main.view.root, requester)
        self._collecting.stop()
        return self._collecting.status()
