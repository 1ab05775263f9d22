"""Sealing: fold a frozen layer into the Merkle tree of the state below, which gives its root.

The steps are generators: each `next` does a bounded piece of work, and between two of them requests run.
The layer does not change meanwhile (it is frozen, and everything in it is cut), nor does the root below.
What a Merkle tree never holds: holes, and extents that lie in the journal.
"""

from collections.abc import Generator, Iterator

from heliosfs.base.keys import ENTRY, EXTENT, INO_BYTES, INODE, LINK, OFFSET_BYTES, SYMLINK, XATTR, key
from heliosfs.base.records import BASE, HOLE, WRITTEN, Extent, encode_entry, encode_extent
from heliosfs.layers.delta import Delta
from heliosfs.layers.extents import ExtentMap
from heliosfs.layers.layer import Layer
from heliosfs.layers.stack import TREE_EXTENT_BYTES_MAX, tree_extents
from heliosfs.merkle import EMPTY, Tree

TreeChange = tuple[bytes, bytes | None]

_STEP_CHANGES = 200
"""Changes gathered in one step: about 0.3 ms."""


def seal(tree: Tree, layer: Layer) -> Generator[None, None, bytes]:
    """The root of a frozen layer that is wholly cut and lies on a sealed one, or on nothing."""
    assert layer.frozen and not layer.uncut and not layer.based and layer.root is None
    assert layer.below is None or layer.below.root is not None
    root = layer.below.root if layer.below is not None and layer.below.root is not None else EMPTY
    changes: list[TreeChange] = []
    step = 0
    for ino in sorted(layer.deltas):
        changes.extend(sorted(tree_changes(tree, root, ino, layer.deltas[ino]).items()))
        if len(changes) - step >= _STEP_CHANGES:
            step = len(changes)
            yield
    return (yield from tree.edit(root, changes))


def tree_changes(tree: Tree, root: bytes, ino: int, delta: Delta) -> dict[bytes, bytes | None]:
    """What folding one delta changes in the tree below it, by key."""
    changes: dict[bytes, bytes | None] = {}
    if delta.fresh and root and not delta.made:
        prefix = ino.to_bytes(INO_BYTES, "big")
        following = (ino + 1).to_bytes(INO_BYTES, "big")
        changes.update((record_key, None) for record_key, _ in tree.scan(root, prefix, following))
    if delta.inode is not None:
        changes[key(ino, INODE)] = delta.inode
    for name, value in (delta.xattrs or {}).items():
        changes[key(ino, XATTR, name)] = value
    for name, child in (delta.entries or {}).items():
        changes[key(ino, ENTRY, name)] = None if child is None else encode_entry(child)
    if delta.symlink is not None:
        changes[key(ino, SYMLINK)] = delta.symlink
    for suffix, mark in (delta.links or {}).items():
        changes[key(ino, LINK, suffix)] = mark
    if delta.extents is not None:
        below = EMPTY if delta.fresh else root
        for start, end in _clusters(delta.extents):
            _fold_extents(tree, below, ino, delta.extents, start, end, changes)
    return changes


def _clusters(extents: ExtentMap) -> Iterator[tuple[int, int]]:
    """Ranges of pieces that are so near each other that one extent of the tree could touch two of them."""
    start = end = -1
    for low, (high, *_) in zip(extents.starts, extents.pieces, strict=True):
        if start >= 0 and low - end > TREE_EXTENT_BYTES_MAX:
            yield start, end
            start = low
        elif start < 0:
            start = low
        end = high
    if start >= 0:
        yield start, end


def _fold_extents(
    tree: Tree, root: bytes, ino: int, extents: ExtentMap, start: int, end: int, changes: dict[bytes, bytes | None]
) -> None:
    """Lay the pieces of [start, end) over the tree's extents there."""
    merged = ExtentMap()
    if root:
        for low, high, kind, source, skip in tree_extents(tree, root, ino, start, end):
            merged.set(low, high, kind, source, skip)
            changes[_extent_key(ino, low)] = None
    pieces: list[Extent] = []
    extents.cover(start, end, pieces)
    for low, high, kind, source, skip in pieces:
        assert kind not in (WRITTEN, BASE)
        merged.set(low, high, kind, source, skip)
    for extent in merged.extents():
        if extent[2] != HOLE:
            changes[_extent_key(ino, extent[0])] = encode_extent(*extent)


def _extent_key(ino: int, start: int) -> bytes:
    return key(ino, EXTENT, start.to_bytes(OFFSET_BYTES, "big"))
