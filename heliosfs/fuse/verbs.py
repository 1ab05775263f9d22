"""The verbs."""

import errno
from typing import TYPE_CHECKING, Any

from heliosfs.base.errors import Refusal
from heliosfs.fuse.rights import Requester, check_is_owner
from heliosfs.fuse.trees import Tree

if TYPE_CHECKING:
    from heliosfs.fuse.serve import Mounted


class Verbs:
    def __init__(self, mounted: "Mounted") -> None:
        self._m = mounted

    def status(self, tree: Tree) -> dict[str, Any]:
        return {"features": self._m.features()}

    def log_text(self, tree: Tree) -> bytes:
        return b""

    def is_state(self, tree: Tree, name: str) -> bool:
        return name.encode() in tree.snapshots()

    async def diff_text(self, tree: Tree, a: str, b: str | None) -> bytes:
        return b"diff\n"

    async def changes_text(self, tree: Tree, a: str, b: str | None) -> bytes:
        return b"changes\n"

    async def act(self, tree: Tree, verb: str, word: str, requester: Requester) -> None:
        check_is_owner(tree.root, requester)
        branch = tree.branch()
        if verb == "restore":
            s = branch.snapshots[word.encode()]
            await self._m.switcher.switch(branch, lambda: [(branch, self._m.volume.restore(branch, s, requester.caller()))])

    async def perform(self, tree: Tree, verb: str, arguments: dict[str, Any], requester: Requester) -> Any:
        if verb == "stats":
            return self._m.statistics()
        if verb == "status":
            return self.status(tree)
        raise Refusal(errno.ENOSYS, verb)
