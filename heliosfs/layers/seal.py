"""Sealing: fold a frozen layer into the Merkle tree of the state below, which gives its root.

The steps are generators: each `next` does a bounded piece of work, and between two of them requests run.
The layer does not change meanwhile (it is frozen, and everything in it is cut), nor does the root below.
What a Merkle tree never holds: holes, and extents that lie in the journal.
"""

import heapq
from collections.abc import Generator, Iterator
from itertools import repeat

from heliosfs.base.keys import ENTRY, EXTENT, INO_BYTES, INODE, LINK, OFFSET_BYTES, SYMLINK, XATTR, key
from heliosfs.base.records import BASE, HOLE, WRITTEN, Extent, encode_entry, encode_extent
from heliosfs.layers.delta import Delta
from heliosfs.layers.extents import ExtentMap
from heliosfs.layers.layer import Layer
from heliosfs.layers.stack import tree_extents
from heliosfs.merkle import EMPTY, Tree

TreeChange = tuple[bytes, bytes | None]

_STEP_CHANGES = 200
"""Changes gathered in one step: about 0.3 ms."""

TREE_EXTENT_BYTES_MAX = 1 << 20
"""No extent in a Merkle tree is longer: it is one chunk at most. So pieces that are farther apart than this touch none
in common, and what lies between them need not be read."""


def seal(tree: Tree, layer: Layer) -> Generator[None, None, bytes]:
    """The root of a frozen layer that is wholly cut and lies on a sealed one, or on nothing."""
    assert layer.frozen and not layer.uncut and not layer.based and layer.root is None
    assert layer.below is None or layer.below.root is not None
    root = layer.below.root if layer.below is not None and layer.below.root is not None else EMPTY
    changes: list[TreeChange] = []
    for ino in sorted(layer.deltas):
        for change in tree_changes(tree, root, ino, layer.deltas[ino]):
            changes.append(change)
            if len(changes) % _STEP_CHANGES == 0:
                yield
    return (yield from tree.edit(root, changes))


def tree_changes(tree: Tree, root: bytes, ino: int, delta: Delta) -> Iterator[TreeChange]:
    """What folding one delta changes in the tree below it, by key and in the order of keys."""
    changes = _changes(tree, root, ino, delta)
    if delta.fresh and root and not delta.made:
        return _instead(_removals(tree, root, ino), changes)
    return changes


def _changes(tree: Tree, root: bytes, ino: int, delta: Delta) -> Iterator[TreeChange]:
    """What the delta itself says. Kinds come in the order of their numbers, and what is many of a kind, sorted."""
    if delta.inode is not None:
        yield key(ino, INODE), delta.inode
    for name, value in sorted((delta.xattrs or {}).items()):
        yield key(ino, XATTR, name), value
    for name, child in sorted((delta.entries or {}).items()):
        yield key(ino, ENTRY, name), None if child is None else encode_entry(child)
    if delta.extents is not None:
        yield from _extent_changes(tree, EMPTY if delta.fresh else root, ino, delta.extents)
    if delta.symlink is not None:
        yield key(ino, SYMLINK), delta.symlink
    for suffix, mark in sorted((delta.links or {}).items()):
        yield key(ino, LINK, suffix), mark


def _removals(tree: Tree, root: bytes, ino: int) -> Iterator[TreeChange]:
    """The loss of everything that the tree has of an inode."""
    prefix = ino.to_bytes(INO_BYTES, "big")
    following = (ino + 1).to_bytes(INO_BYTES, "big")
    return ((record_key, None) for record_key, _ in tree.scan(root, prefix, following))


def _instead(removals: Iterator[TreeChange], changes: Iterator[TreeChange]) -> Iterator[TreeChange]:
    """Both; a key that goes and comes has changed."""
    last = b""
    for change in heapq.merge(changes, removals, key=_key_of):  # of two with the same key the first one's is first
        if change[0] != last:
            yield change
        last = change[0]


def _extent_changes(tree: Tree, root: bytes, ino: int, extents: ExtentMap) -> Iterator[TreeChange]:
    """Lay the pieces over the tree's extents."""
    starts, pieces = extents.starts, extents.pieces
    for first, last in _clusters(extents):
        below = tree_extents(tree, root, ino, starts[first], pieces[last][0])
        over = ((starts[index], *pieces[index]) for index in range(first, last + 1))
        for group in _groups(below, over):
            yield from _fold(ino, *group)


def _clusters(extents: ExtentMap) -> Iterator[tuple[int, int]]:
    """The first and the last index of pieces that are so near each other that one extent of the tree could touch two
    of them."""
    first = 0
    for index in range(1, len(extents)):
        if extents.starts[index] - extents.pieces[index - 1][0] > TREE_EXTENT_BYTES_MAX:
            yield first, index - 1
            first = index
    if extents.starts:
        yield first, len(extents) - 1


def _groups(below: Iterator[Extent], pieces: Iterator[Extent]) -> Iterator[tuple[list[Extent], list[Extent]]]:
    """The tree's extents and the pieces over them, in groups between which nothing overlaps. Mostly one piece and what
    it touches: a file of very many extents is changed in so many small steps. Extents under no piece are left out."""
    touched: list[Extent] = []
    over: list[Extent] = []
    end = 0
    for extent, is_piece in heapq.merge(zip(below, repeat(False)), zip(pieces, repeat(True)), key=_start_of):
        if extent[0] >= end:
            if over:
                yield touched, over
            touched, over = [], []
        (over if is_piece else touched).append(extent)
        end = max(end, extent[1])
    if over:
        yield touched, over


def _fold(ino: int, touched: list[Extent], over: list[Extent]) -> Iterator[TreeChange]:
    """What becomes of the extents of one group."""
    merged = ExtentMap()
    for low, high, kind, source, skip in (*touched, *over):
        assert kind not in (WRITTEN, BASE)
        merged.set(low, high, kind, source, skip)
    changes: dict[bytes, bytes | None] = {_extent_key(ino, extent[0]): None for extent in touched}
    for extent in merged.extents():
        if extent[2] != HOLE:
            changes[_extent_key(ino, extent[0])] = encode_extent(*extent)
    yield from sorted(changes.items())


def _extent_key(ino: int, start: int) -> bytes:
    return key(ino, EXTENT, start.to_bytes(OFFSET_BYTES, "big"))


def _key_of(change: TreeChange) -> bytes:
    return change[0]


def _start_of(extent: tuple[Extent, bool]) -> int:
    return extent[0][0]
