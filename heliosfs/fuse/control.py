"""The files of .heliosfs: what is in them when they are read, and what happens when they are written."""

import errno
import json
from typing import Any, Final

from heliosfs.base.errors import Refusal
from heliosfs.fuse import magic
from heliosfs.fuse.call_file import CallFile
from heliosfs.fuse.errors import Faults, told
from heliosfs.fuse.filling import Spawn
from heliosfs.fuse.handles import AnyFile
from heliosfs.fuse.made import MadeFile, VerbFile
from heliosfs.fuse.reports import Report
from heliosfs.fuse.rights import Requester
from heliosfs.fuse.trees import Tree, text
from heliosfs.fuse.verbs import Verbs

SEPARATOR: Final = b".."
"""Between the two states of a report's name; a name may hold it too, so every place is tried."""


class Control:
    """Opens the files of .heliosfs."""

    def __init__(self, verbs: Verbs, faults: Faults) -> None:
        self.spawn: Spawn | None = None
        self._verbs = verbs
        self._faults = faults

    def open(self, tree: Tree, ino: int, requester: Requester) -> AnyFile:
        """One of the fixed files."""
        if ino == magic.STATUS:
            return MadeFile(_lines(self._verbs.status(tree)))
        if ino == magic.LOG:
            return MadeFile(self._verbs.log_text(tree))
        if ino == magic.CALL:
            assert self.spawn is not None
            return CallFile(lambda request: self.answer(tree, request, requester), self.spawn)
        verb = magic.VERBS.get(ino)
        if verb is None:
            raise Refusal(errno.EISDIR)
        return VerbFile(lambda word: self._act(tree, verb, word, requester))

    async def open_report(self, tree: Tree, report: Report, requester: Requester) -> AnyFile:
        """One of the files A..B."""
        states = self._states(tree, report.name)
        if states is None:
            raise Refusal(errno.ENOENT)
        before, after = states
        if report.container == magic.DIFF:
            return MadeFile(await self._verbs.comparing.diff_text(tree, before, after, requester))
        return MadeFile(await self._verbs.comparing.changes_text(tree, before, after, requester))

    def has_report(self, tree: Tree, name: bytes) -> bool:
        """Whether a name is two states, or one, that there are."""
        return self._states(tree, name) is not None

    def _states(self, tree: Tree, name: bytes) -> tuple[str, str | None] | None:
        exists = self._verbs.is_state
        if exists(tree, text(name)):
            return text(name), None
        at = name.find(SEPARATOR)
        while at >= 0:
            before, after = text(name[:at]), text(name[at + len(SEPARATOR) :])
            if exists(tree, before) and exists(tree, after):
                return before, after
            at = name.find(SEPARATOR, at + 1)
        return None

    async def _act(self, tree: Tree, verb: str, word: bytes, requester: Requester) -> None:
        await self._verbs.act(tree, verb, text(word), requester)

    async def answer(self, tree: Tree, request: Any, requester: Requester) -> dict[str, Any]:
        """The reply to a request of `.heliosfs/call`."""
        try:
            verb, arguments = _parse(request)
            result = await self._verbs.perform(tree, verb, arguments, requester)
        except Exception as error:
            code = self._faults.errno_of(error, f"call {request!r:.200}")
            return {"ok": False, "errno": code, "error": told(error)}
        return {"ok": True, "result": result}


def _parse(request: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(request, dict) or not isinstance(request.get("verb"), str):
        raise Refusal(errno.EINVAL, 'a request is {"verb": NAME, "arguments": {...}}')
    arguments = request.get("arguments", {})
    if not isinstance(arguments, dict):
        raise Refusal(errno.EINVAL, "the arguments of a request are an object")
    return request["verb"], arguments


def _lines(value: object) -> bytes:
    return json.dumps(value, indent=2).encode("ascii") + b"\n"
