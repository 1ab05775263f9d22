"""A sorted map of bytes to bytes, kept as immutable nodes in a content-addressed store (a prolly tree).

A map is named by its root, the digest of its top node; equal maps have equal roots, whatever the order
of the edits that made them. `Tree` reads and makes maps; it holds none itself, only decoded nodes.

Invariants:
1. Nothing that exists ever changes: a scan or a difference under way is not touched by edits.
2. What is read is valid or `Corruption` is raised; no wrong value, no other exception.
3. Every read is bounded by the height of the tree plus what it returns.

It never deletes a node (collection does, above), and never looks into a value.
"""

from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence

from heliosfs.base.errors import Corruption
from heliosfs.merkle.difference import Difference, difference
from heliosfs.merkle.edit import Change, edit
from heliosfs.merkle.node import Node
from heliosfs.merkle.nodes import Nodes, NodeStore, floor_of
from heliosfs.merkle.scan import Entry, scan, visit, walk


class Tree:
    """All maps of one store."""

    def __init__(self, store: NodeStore, cache_bytes: int) -> None:
        self.nodes = Nodes(store, cache_bytes)

    def get(self, root: bytes, key: bytes) -> bytes | None:
        """The value of a key, or None. Raises Corruption."""
        if not root:
            return None
        nodes = self.nodes
        digest = root
        node = nodes.young.get(root) or nodes.load(root)
        level = node.level
        while True:
            keys = node.keys
            index = bisect_left(keys, key)
            if index == len(keys):
                if digest is root:
                    return None
                raise Corruption("node", "its last key, which its parent gives otherwise", digest)
            if level == 0:
                return node.values[index] if keys[index] == key else None
            digest = node.values[index]
            node = nodes.young.get(digest) or nodes.load(digest)
            level -= 1
            if node.level != level:
                raise Corruption("node", "its level, which its parent gives otherwise", digest)

    def before(self, root: bytes, key: bytes) -> Entry | None:
        """The entry with the greatest key below `key`, or None. Raises Corruption."""
        if not root:
            return None
        node = self.nodes.load(root)
        floor: bytes | None = None
        while node.level:
            index = min(bisect_left(node.keys, key), len(node.keys) - 1)
            floor = floor_of(node, index, floor)
            node = self.nodes.child(node, index, floor)
        index = bisect_left(node.keys, key)
        if index:
            return node.keys[index - 1], node.values[index - 1]
        if floor is None:
            return None
        # The last key of the leaf before this one.
        value = self.get(root, floor)
        if value is None:
            raise Corruption("node", "the last key of one of its children, which that does not have", root)
        return floor, value

    def scan(self, root: bytes, start: bytes = b"", end: bytes | None = None) -> Iterator[Entry]:
        """Entries from `start` up to but without `end`, in order, loaded as they are reached.

        Raises: Corruption, at the entry where it is met.
        """
        return scan(self.nodes, root, start, end)

    def edit(self, root: bytes, changes: Sequence[Change]) -> Generator[None, None, bytes]:
        """Make a changed map: `changes` are sorted by key, each key once, None removes. Returns its root.

        Yields after every node or so. Nothing is lost when it is not carried to its end.
        Raises: Corruption; what the store raises when it cannot put a node.
        """
        return edit(self.nodes, root, changes)

    def diff(self, a: bytes, b: bytes, start: bytes = b"", end: bytes | None = None) -> Iterator[Difference]:
        """Keys from `start` up to but without `end` whose values differ: (key, in a, in b), in order.

        Skips equal subtrees. Raises: Corruption.
        """
        return difference(self.nodes, a, b, start, end)

    def walk(self, root: bytes, seen: set[bytes] | None = None) -> Iterator[bytes]:
        """The digests of all nodes of a tree, parents first; skips what is in `seen` and adds to it.

        Reads no leaves. Raises: Corruption.
        """
        return walk(self.nodes, root, seen)

    def visit(self, root: bytes, seen: set[bytes] | None = None) -> Iterator[tuple[bytes, Node]]:
        """The same with the nodes themselves, leaves too, each validated: for checks and collection.

        Raises: Corruption.
        """
        return visit(self.nodes, root, seen)
