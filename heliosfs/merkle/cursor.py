"""A position in a tree that moves forward over the nodes of one level, for edits."""

from bisect import bisect_left

from heliosfs.merkle.node import Node
from heliosfs.merkle.nodes import Nodes, floor_of

Step = tuple[Node, int, bytes | None]
"""A node on the way down, which child was taken, and the last key before the node (None: there is none)."""


class LevelCursor:
    """The nodes of one level, in order. Before the first `seek` it is at none."""

    def __init__(self, nodes: Nodes, root: bytes, level: int) -> None:
        self._nodes = nodes
        self._root = root
        self._level = level
        self._path: list[Step] = []
        self.digest = b""
        """The digest of the node it is at."""
        self.last = False
        """Whether that node is the last of its level."""

    def seek(self, key: bytes) -> Node:
        """Go to the node that holds `key` or, if the map had it, would hold it."""
        self._path.clear()
        node = self._nodes.load(self._root)
        self.digest = self._root
        self.last = True
        floor = None
        while node.level > self._level:
            index = min(bisect_left(node.keys, key), len(node.keys) - 1)
            node, floor = self._enter(node, index, floor)
        return node

    def advance(self) -> Node:
        """Go to the next node. Requires: this is not the last."""
        assert not self.last
        node, index, floor = self._path.pop()
        while index + 1 == len(node.keys):
            node, index, floor = self._path.pop()
        self.last = all(place + 1 == len(parent.keys) for parent, place, _ in self._path)
        node, floor = self._enter(node, index + 1, floor)
        while node.level > self._level:
            node, floor = self._enter(node, 0, floor)
        return node

    def _enter(self, parent: Node, index: int, floor: bytes | None) -> tuple[Node, bytes | None]:
        self._path.append((parent, index, floor))
        self.digest = parent.values[index]
        self.last = self.last and index + 1 == len(parent.keys)
        floor = floor_of(parent, index, floor)
        return self._nodes.child(parent, index, floor), floor
