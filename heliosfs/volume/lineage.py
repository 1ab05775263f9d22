"""The branches and snapshots of a volume as a drawn lineage, with what each takes on disk.

`own` is the content that no other branch or snapshot has: what deleting it would free, once the states that were kept
by themselves and the operation log let go of it too. `shared` is the rest of its content. Both count what is stored,
so compressed and each piece once; the records of names and attributes are not counted.

States are gone through one after the other, and only where a state differs from the one before is anything looked at:
the cost is that of the first one and of all differences. It runs in steps; what changes meanwhile may be counted as it
was or as it is.
"""

import os
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

from heliosfs.base.keys import EXTENT, INO_BYTES, OFFSET_BYTES
from heliosfs.base.records import BASE, CHUNK, HOLE, INLINE, Extent, decode_extent, decode_inode
from heliosfs.layers import stack
from heliosfs.layers.layer import Layer
from heliosfs.view.engine import Engine
from heliosfs.volume.branch import Branch, Snapshot
from heliosfs.volume.difference import touched_inodes
from heliosfs.volume.registry import Registry

STEP_INODES = 32
"""Compared in one step: about 1 ms."""
STEP_NODES = 8

Piece = tuple[int, int | bytes]
"""(kind, source) of an extent: equal for equal bytes."""
Source = Branch | Snapshot


def lineage(registry: Registry, branch: Branch) -> Generator[None, None, dict[str, Any]]:
    """A branch with its snapshots and with the branches below it, for programs."""
    sizes = yield from _sizes(registry)
    return _branch(branch, sizes)


def _branch(branch: Branch, sizes: dict[int, tuple[int, int]]) -> dict[str, Any]:
    states = {snapshot.state.id: os.fsdecode(name) for name, snapshot in branch.snapshots.items()}
    children = []
    for child in sorted(branch.children.values(), key=lambda each: (each.created, each.name)):
        children.append({**_branch(child, sizes), "from": states.get(child.record.base)})
    snapshots = sorted(branch.snapshots.values(), key=lambda each: (each.created, each.name))
    shown = [
        {**_facts(each, sizes), **({"message": each.record.message} if each.record.message else {})}
        for each in snapshots
    ]
    return {**_facts(branch, sizes), "snapshots": shown, "branches": children}


def _facts(source: Source, sizes: dict[int, tuple[int, int]]) -> dict[str, Any]:
    own, shared = sizes[id(source)]
    return {"name": os.fsdecode(source.name), "created": source.created, "own_bytes": own, "shared_bytes": shared}


def _sources(branch: Branch) -> Iterator[Source]:
    """A branch, its snapshots and all below, those next to each other that differ little."""
    yield from sorted(branch.snapshots.values(), key=lambda each: each.state.id)
    yield branch
    for child in branch.children.values():
        yield from _sources(child)


def _state(source: Source) -> Layer:
    return source.view.top if isinstance(source, Branch) else source.state


def _sizes(registry: Registry) -> Generator[None, None, dict[int, tuple[int, int]]]:
    """(own, shared) of each branch and snapshot, by the id() of its object."""
    sources = list(_sources(registry.main))
    account = _Account(registry.engine)
    before = yield from account.begin(_state(sources[0]))
    wholes = []
    for source in sources:
        yield from account.go_on(before, _state(source))
        wholes.append(account.whole)
        before = _state(source)
    own = account.own()
    return {
        id(source): (own[position], max(0, whole - own[position]))
        for position, (source, whole) in enumerate(zip(sources, wholes, strict=True), start=1)
    }


class _Account:
    """What the present state has, and in how many states each piece is."""

    def __init__(self, engine: Engine) -> None:
        self.whole = 0
        self._engine = engine
        self._position = 0
        self._uses: Counter[Piece] = Counter()
        self._lengths: dict[Piece, int] = {}
        self._since: dict[Piece, int] = {}
        """The position of the state in which a piece came up that is still there."""
        self._states: Counter[Piece] = Counter()
        """In how many states a piece was that is not there any more, or was and came again."""
        self._last: dict[Piece, int] = {}
        """The last state in which it was."""

    def begin(self, state: Layer) -> Generator[None, None, Layer]:
        """Begin with the sealed state below, read leaf by leaf, which is quick; that state."""
        bottom = state
        while bottom.root is None and bottom.below is not None:
            bottom = bottom.below
        if bottom.root is None:
            return bottom if bottom.empty or bottom.lister is not None else Layer(0)
        for visited, (_, node) in enumerate(self._engine.tree.visit(bottom.root, set()), start=1):
            if node.level == 0:
                for record_key, value in zip(node.keys, node.values, strict=True):
                    if record_key[INO_BYTES] == EXTENT:
                        self._add(decode_extent(int.from_bytes(record_key[-OFFSET_BYTES:], "big"), value))
            if visited % STEP_NODES == 0:
                yield
        return bottom

    def go_on(self, before: Layer, after: Layer) -> Generator[None, None, None]:
        """Go from the present state, which is `before`, to the next one."""
        self._position += 1
        touched = touched_inodes(self._engine.tree, before, after)
        for count, ino in enumerate(touched, start=1):
            old, new = self._extents(before, ino), self._extents(after, ino)
            for extent in new:
                self._add(extent)
            for extent in old:
                self._take_away(extent)
            if count % STEP_INODES == 0:
                yield

    def own(self) -> Counter[int]:
        """By the position of a state: the bytes of what is in that state alone."""
        for piece in list(self._since):
            self._end(piece, self._position + 1)
        own: Counter[int] = Counter()
        for piece, count in self._states.items():
            if count == 1:
                own[self._last[piece]] += self._lengths[piece]
        return own

    def _extents(self, state: Layer, ino: int) -> list[Extent]:
        record = stack.find_inode(self._engine.tree, state, ino)
        size = decode_inode(record).size if record is not None else 0
        found = stack.resolve(self._engine.tree, state, ino, 0, size) if size else []
        return [extent for extent in found if extent[2] != HOLE]

    def _add(self, extent: Extent) -> None:
        piece = _piece(extent)
        self._uses[piece] += 1
        if self._uses[piece] == 1:
            if piece not in self._lengths:
                self._lengths[piece] = self._length(extent)
            self.whole += self._lengths[piece]
            self._since[piece] = self._position

    def _take_away(self, extent: Extent) -> None:
        piece = _piece(extent)
        if not self._uses[piece]:
            return  # it was cut meanwhile, and came in under its name before
        self._uses[piece] -= 1
        if not self._uses[piece]:
            self.whole -= self._lengths[piece]
            self._end(piece, self._position)

    def _end(self, piece: Piece, position: int) -> None:
        """A piece is in no state from this position on."""
        first = max(1, self._since.pop(piece))
        if position > first:
            self._states[piece] += position - first
            self._last[piece] = position - 1

    def _length(self, extent: Extent) -> int:
        start, end, kind, source, _ = extent
        if kind == BASE:
            return 0  # it is not stored here
        if kind == CHUNK:
            assert isinstance(source, bytes)
            return self._engine.objects.stored_length(source)
        return len(source) if kind == INLINE and isinstance(source, bytes) else end - start


def _piece(extent: Extent) -> Piece:
    source = extent[3]
    assert source is not None
    return extent[2], source
