"""The verbs that compare two states, and the files that show the same.

A comparison is short as a rule: then it is made at once. A longer one lets requests in between its steps, and compares
the states as they were when it began.
"""

import errno
from collections.abc import Callable, Generator, Iterable
from typing import Any, Final, TypeVar

from heliosfs.base.errors import Refusal
from heliosfs.base.steps import Steps, finish
from heliosfs.fuse.arguments import Arguments, paths_of, states_of, text_of
from heliosfs.fuse.handles import Handles
from heliosfs.fuse.kernel_cache import KernelCache
from heliosfs.fuse.rights import Requester, check_is_owner
from heliosfs.fuse.stepwise import begun, stepwise
from heliosfs.fuse.trees import Tree, text
from heliosfs.layers.layer import Layer
from heliosfs.volume import patch
from heliosfs.volume.changes import changes_in_steps, json_in_steps, names_in_steps
from heliosfs.volume.naming import NOW
from heliosfs.volume.path_restore import check_known, clean_paths
from heliosfs.volume.volume import Volume

DIFF_FORMS: Final = ("patch", "stat", "names", "json")

AT_ONCE_NANOSECONDS: Final = 4_000_000
"""A comparison that takes no longer is made at once: for a longer one the states of live branches are frozen, which
costs a record in the journal and a layer."""

Result = TypeVar("Result")


class Comparing:
    """Carries them out."""

    def __init__(self, volume: Volume, cache: KernelCache, handles: Handles) -> None:
        self._volume = volume
        self._cache = cache
        self._handles = handles

    async def diff_text(self, tree: Tree, before: str, after: str | None, requester: Requester) -> bytes:
        """The unified diff of two states."""
        engine = self._volume.engine
        a, b = await self._states(tree, before, after, requester)
        return await self._compared(a, b, lambda a, b: _joined(patch.patch(engine, a, b)))

    async def changes_text(self, tree: Tree, before: str, after: str | None, requester: Requester) -> bytes:
        """The names of what differs between two states."""
        engine = self._volume.engine
        a, b = await self._states(tree, before, after, requester)

        def told(a: Layer, b: Layer) -> Steps[bytes]:
            return (yield from names_in_steps((yield from changes_in_steps(engine, a, b))))

        return await self._compared(a, b, told)

    async def changes(self, tree: Tree, arguments: Arguments, requester: Requester) -> list[dict[str, Any]]:
        """The verb of that name."""
        engine = self._volume.engine
        a, b = await self._states(tree, *states_of(arguments), requester)
        paths = self._known_paths(arguments, a, b)

        def told(a: Layer, b: Layer) -> Steps[list[dict[str, Any]]]:
            return (yield from json_in_steps((yield from changes_in_steps(engine, a, b, paths))))

        return await self._compared(a, b, told)

    async def diff(self, tree: Tree, arguments: Arguments, requester: Requester) -> Any:
        """A text; with the form "json" the text along with a list of the changes."""
        form = text_of(arguments, "form", "patch")
        if form not in DIFF_FORMS:
            raise Refusal(errno.EINVAL, f"form is one of {', '.join(DIFF_FORMS)}")
        a, b = await self._states(tree, *states_of(arguments), requester)
        paths = self._known_paths(arguments, a, b)
        return await self._compared(a, b, lambda a, b: self._in_form(form, a, b, paths))

    def _in_form(self, form: str, a: Layer, b: Layer, paths: list[bytes]) -> Steps[Any]:
        engine = self._volume.engine
        if form == "stat":
            return text((yield from patch.stat_in_steps(engine, a, b, paths)))
        found = (yield from changes_in_steps(engine, a, b, paths)) if form != "patch" else []
        if form == "names":
            return text((yield from names_in_steps(found)))
        diff = text((yield from _joined(patch.patch(engine, a, b, paths))))
        return diff if form == "patch" else {"changes": (yield from json_in_steps(found)), "diff": diff}

    async def _states(self, tree: Tree, before: str, after: str | None, requester: Requester) -> tuple[Layer, Layer]:
        """Two states to compare, which has to begin before anything else runs: one may be that of a live branch.

        What differs may be what its owner lets nobody read, hence the check.
        """
        check_is_owner(tree.root, requester)
        if self._handles.mappable:
            await self._cache.write_back()
        owner = tree.owner()
        return self._volume.state(owner, before), self._volume.state(owner, NOW if after is None else after)

    def _known_paths(self, arguments: Arguments, a: Layer, b: Layer) -> list[bytes]:
        """The paths to which a comparison is limited."""
        paths = clean_paths(paths_of(arguments))
        check_known(self._volume.registry, paths, a, b, where="in neither of the two states")
        return paths

    async def _compared(self, a: Layer, b: Layer, compare: Callable[[Layer, Layer], Steps[Result]]) -> Result:
        """What a comparison of two states gives, as they are now."""
        steps = compare(a, b)
        ended = begun(steps, AT_ONCE_NANOSECONDS)
        if ended is not None:
            return ended[0]
        steps.close()
        try:
            first, second = self._volume.steady(a), self._volume.steady(b)
        except OSError:
            # On a full disk nothing can be frozen. What is asked for is told all the same, while requests wait.
            first = second = None
        if first is None or second is None:
            return finish(compare(a, b))
        with self._volume.registry.holding(first, second):
            return await stepwise(compare(first, second))


def _joined(pieces: Iterable[bytes]) -> Generator[None, None, bytes]:
    """All pieces of a text, in steps."""
    found: list[bytes] = []
    for piece in pieces:
        found.append(piece)
        yield
    return b"".join(found)
