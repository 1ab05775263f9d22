"""A whole state read into memory, however damaged: what fsck checks.

Damage in the Merkle tree does not end the reading: what a damaged node would hold is noted as a gap, and what is
there beside it is read. Memory is proportional to one tree.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from heliosfs.base.errors import Corruption, HeliosError
from heliosfs.base.keys import ENTRY, EXTENT, INO_BYTES, INODE, LINK, OFFSET_BYTES, SYMLINK, XATTR, split, split_link
from heliosfs.base.records import CHUNK, ENTRY_TYPE_BITS, INLINE, decode_entry, decode_extent
from heliosfs.layers.delta import Delta
from heliosfs.layers.extents import ExtentMap
from heliosfs.layers.layer import Layer
from heliosfs.layers.seal import TREE_EXTENT_BYTES_MAX
from heliosfs.merkle.node import Node
from heliosfs.merkle.nodes import Nodes, check, floor_of
from heliosfs.merkle.tree import Tree

Value = TypeVar("Value")


class Gap(NamedTuple):
    """What a node that cannot be read would hold: records of the inodes `first` to `last`, None without end."""

    first: int
    last: int | None
    reason: str

    def __contains__(self, ino: object) -> bool:
        return isinstance(ino, int) and self.first <= ino and (self.last is None or ino <= self.last)


class StateTree:
    """The records of each inode of a state, as if all were in one fresh delta."""

    def __init__(self, nodes: Nodes, layer: Layer) -> None:
        self.inodes: dict[int, Delta] = {}
        self.gaps: list[Gap] = []
        self.faults: list[tuple[int, str]] = []
        """(inode number, what is wrong with one of its records)."""
        self.digests: set[bytes] = set()
        """The nodes that were read, or tried."""
        self._nodes = nodes
        layers: list[Layer] = []
        at: Layer | None = layer
        while at is not None and at.root is None:
            if at in layers:
                self.gaps.append(Gap(0, None, f"layer {at.id} lies below itself"))
                break
            layers.append(at)
            at = at.below
        if at is not None and at.root:
            self._read(at.root)
        for each in reversed(layers):
            for ino, delta in each.deltas.items():
                self._overlay(ino, delta)

    def missing(self, ino: int) -> bool:
        """Whether records of an inode may be in a gap."""
        return any(ino in gap for gap in self.gaps)

    def _read(self, root: bytes) -> None:
        for key, value in self._leaves(root):
            self._take(key, value)

    def _take(self, key: bytes, value: bytes) -> None:
        if len(key) <= INO_BYTES:
            self.faults.append((0, f"a key of {len(key)} bytes"))
            return
        ino, kind, suffix = split(key)
        delta = self.inodes.get(ino)
        if delta is None:
            delta = self.inodes[ino] = Delta()
        try:
            fault = _restore(delta, kind, suffix, value)
        except Corruption as damage:
            fault = str(damage)
        if fault:
            self.faults.append((ino, fault))

    def advance(self, tree: Tree, old: bytes, new: bytes) -> set[int]:
        """Become the tree of another root than that which this was read from.

        The inodes of which any invariant could be another one now. Raises what a damaged tree raises; then this is
        of no use any more.
        """
        touched: set[int] = set()
        affected: set[int] = set()
        for key, before, after in tree.diff(old, new):
            ino, kind, suffix = split(key)
            touched.add(ino)
            if kind == ENTRY:
                affected.update(decode_entry(each) >> ENTRY_TYPE_BITS for each in (before, after) if each is not None)
            elif kind == LINK:
                affected.add(split_link(suffix)[0])
        for ino in touched:
            self.inodes.pop(ino, None)
            first, following = (number.to_bytes(INO_BYTES, "big") for number in (ino, ino + 1))
            for key, value in tree.scan(new, first, following):
                self._take(key, value)
            if ino in self.inodes:
                affected.update(split_link(suffix)[0] for suffix in self.inodes[ino].links or ())
        return affected | touched

    def _leaves(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All entries that can be read, in order."""
        top = self._node(root, None, 0, None, None)
        stack: list[tuple[Node, int, bytes | None]] = [] if top is None else [(top, 0, None)]
        while stack:
            node, index, floor = stack.pop()
            if node.level == 0:
                yield from zip(node.keys, node.values, strict=True)
                continue
            if index + 1 < len(node.keys):
                stack.append((node, index + 1, floor))
            below = floor_of(node, index, floor)
            child = self._node(node.values[index], node, index, below, node.keys[index])
            if child is not None:
                stack.append((child, 0, below))

    def _node(
        self, digest: bytes, parent: Node | None, index: int, floor: bytes | None, last: bytes | None
    ) -> Node | None:
        self.digests.add(digest)
        try:
            node = self._nodes.peek(digest)
            return node if parent is None else check(parent, index, floor, node)
        except (HeliosError, OSError, struct.error) as damage:
            first = 0 if floor is None else split(floor)[0]
            self.gaps.append(Gap(first, None if last is None else split(last)[0], str(damage)))
            return None

    def _overlay(self, ino: int, above: Delta) -> None:
        """Lay what one layer says of an inode over what lies below."""
        delta = self.inodes.get(ino)
        if delta is None or above.fresh:
            delta = self.inodes[ino] = Delta()
        if above.inode is not None:
            delta.inode = above.inode
        if above.symlink is not None:
            delta.symlink = above.symlink
        if above.entries:
            delta.entries = _merged(delta.entries, above.entries)
        if above.links:
            delta.links = _merged(delta.links, above.links)
        if above.xattrs:
            delta.xattrs = _merged(delta.xattrs, above.xattrs)
        if above.extents is not None:
            if delta.extents is None:
                delta.extents = ExtentMap()
            for start, end, kind, source, skip in above.extents.extents():
                if start >= end or skip < 0:
                    self.faults.append((ino, f"an extent from {start} to {end}"))
                else:
                    delta.extents.set(start, end, kind, source, skip)
        if not any((delta.inode, delta.symlink, delta.entries, delta.links, delta.xattrs)) and not delta.extents:
            del self.inodes[ino]


def _merged(below: dict[bytes, Value | None] | None, above: dict[bytes, Value | None]) -> dict[bytes, Value | None]:
    merged = {} if below is None else below
    for name, value in above.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged


def _restore(delta: Delta, kind: int, suffix: bytes, value: bytes) -> str:
    """Take in a record of a Merkle tree; what is wrong with it, or nothing. Raises Corruption."""
    if kind not in (INODE, XATTR, ENTRY, EXTENT, SYMLINK, LINK):
        return f"a record of the unknown kind {kind}"
    if kind in (INODE, SYMLINK) and suffix:
        return f"a key of kind {kind} with something behind it"
    if kind in (XATTR, ENTRY) and not suffix:
        return f"a key of kind {kind} without a name"
    if kind == LINK and len(suffix) <= INO_BYTES:
        return "a link without a name"
    if kind == EXTENT:
        if len(suffix) != OFFSET_BYTES:
            return "an extent without an offset"
        start = int.from_bytes(suffix, "big")
        _, end, source_kind, _, _ = decode_extent(start, value)
        if source_kind not in (CHUNK, INLINE):
            return f"the extent at {start} is of kind {source_kind}, which no tree holds"
        if end - start > TREE_EXTENT_BYTES_MAX:
            return f"the extent at {start} is too long for a tree"
        if delta.extents is not None and delta.extents.pieces and delta.extents.pieces[-1][0] > start:
            return f"the extent at {start} overlaps the one before it"
    delta.restore(kind, suffix, value)
    return ""
