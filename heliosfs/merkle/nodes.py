"""The nodes of a store, decoded, in a bounded cache that all roots share.

The cache keeps two generations: a node that is used moves into the young one; when that has half of the
allowed bytes it becomes the old one, and what was still old is let go. So a hit costs one dict probe and
no bookkeeping, and what was used recently stays, as in an LRU.

A node is validated when it is decoded, and against its parent (level, last key) whenever it is reached.
Belongs to the thread of the loop.
"""

from typing import Protocol

from heliosfs.base.errors import Corruption
from heliosfs.merkle.node import NODE, Node, decode, encode, memory_bytes


class NodeStore(Protocol):
    """What a tree needs of a store of objects."""

    def get(self, digest: bytes, /) -> bytes:
        """The bytes stored under `digest`. Raises Corruption when they are damaged or missing."""
        ...

    def put(self, data: bytes, kind: int, /) -> bytes:
        """Store bytes; their digest."""
        ...


class Nodes:
    """Decoded nodes by digest. `young` is for the one fast path that probes it by itself (Tree.get)."""

    def __init__(self, store: NodeStore, cache_bytes: int) -> None:
        self._store = store
        self._half = cache_bytes // 2
        self.young: dict[bytes, Node] = {}
        self._old: dict[bytes, Node] = {}
        self._young_bytes = 0
        self._old_bytes = 0
        self.loads = 0
        """Nodes read from the store so far."""

    def load(self, digest: bytes) -> Node:
        """The node with this digest. Raises Corruption."""
        node = self.young.get(digest)
        if node is None:
            node = self._old.pop(digest, None)
            if node is None:
                self.loads += 1
                data = self._store.get(digest)
                node = decode(data, digest)
                self._remember(digest, node, memory_bytes(node, len(data)))
            else:
                size = memory_bytes(node, len(encode(node)))
                self._old_bytes -= size
                self._remember(digest, node, size)
        return node

    def peek(self, digest: bytes) -> Node:
        """The node with this digest, leaving the cache as it is: for passes over all there is.

        Raises: Corruption.
        """
        node = self.young.get(digest) or self._old.get(digest)
        if node is None:
            self.loads += 1
            node = decode(self._store.get(digest), digest)
        return node

    def child(self, parent: Node, index: int, floor: bytes | None) -> Node:
        """A child, checked against what its parent says of it. Raises Corruption.

        `floor` is a key that lies before all of the child's, if there is one.
        """
        return check(parent, index, floor, self.load(parent.values[index]))

    def save(self, node: Node) -> bytes:
        """Store a new node; its digest."""
        data = encode(node)
        digest = self._store.put(data, NODE)
        if digest not in self.young and digest not in self._old:
            self._remember(digest, node, memory_bytes(node, len(data)))
        return digest

    def cached_bytes(self) -> int:
        """About the memory of all decoded nodes held."""
        return self._young_bytes + self._old_bytes

    def _remember(self, digest: bytes, node: Node, size: int) -> None:
        if self._young_bytes + size > self._half:
            self._old, self.young = self.young, {}
            self._old_bytes, self._young_bytes = self._young_bytes, 0
            if size > self._half:
                return
        self.young[digest] = node
        self._young_bytes += size


def check(parent: Node, index: int, floor: bytes | None, node: Node) -> Node:
    """A child as it is, when it is what its parent says. Raises Corruption."""
    keys = node.keys
    if node.level != parent.level - 1 or keys[-1] != parent.keys[index] or (floor is not None and keys[0] <= floor):
        raise Corruption("node", "its place in the tree", parent.values[index])
    return node


def floor_of(parent: Node, index: int, floor: bytes | None) -> bytes | None:
    """The last key before a child, where `floor` is the last one before its parent."""
    return parent.keys[index - 1] if index else floor
