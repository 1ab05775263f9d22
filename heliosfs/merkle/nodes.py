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
        self.loads = 0
        """Nodes read from the store so far."""

    def load(self, digest: bytes) -> Node:
        """The node with this digest. Raises Corruption."""
        node = self.young.get(digest)
        if node is None:
            node = self._old.get(digest)
            if node is None:
                node = self.read(digest)
            self._remember(digest, node)
        return node

    def read(self, digest: bytes) -> Node:
        """The node with this digest from the store, leaving the cache as it is. Raises Corruption."""
        self.loads += 1
        return decode(self._store.get(digest), digest)

    def peek(self, digest: bytes) -> Node:
        """The node with this digest, leaving the cache as it is: for passes over all there is.

        Raises: Corruption.
        """
        return self.young.get(digest) or self._old.get(digest) or self.read(digest)

    def child(self, parent: Node, index: int) -> Node:
        """A child, checked against what its parent says of it. Raises Corruption."""
        return self.check(parent, index, self.load(parent.values[index]))

    def check(self, parent: Node, index: int, node: Node) -> Node:
        """A child as it is, when it is what its parent says. Raises Corruption."""
        keys = node.keys
        if (
            node.level != parent.level - 1
            or keys[-1] != parent.keys[index]
            or (index and keys[0] <= parent.keys[index - 1])
        ):
            raise Corruption("node", "its place in the tree", parent.values[index])
        return node

    def save(self, node: Node) -> bytes:
        """Store a new node; its digest."""
        digest = self._store.put(encode(node), NODE)
        if digest not in self.young:
            self._remember(digest, node)
        return digest

    def _remember(self, digest: bytes, node: Node) -> None:
        self.young[digest] = node
        self._young_bytes += memory_bytes(node)
        if self._young_bytes > self._half:
            self._old, self.young = self.young, {}
            self._young_bytes = 0
