"""A position in a tree that moves forward over the nodes of one level, for edits."""

from bisect import bisect_left

from heliosfs.merkle.node import Node
from heliosfs.merkle.nodes import Nodes


class LevelCursor:
    """The nodes of one level, in order. Before the first `seek` or `advance` it is at none."""

    def __init__(self, nodes: Nodes, root: bytes, level: int) -> None:
        self._nodes = nodes
        self._root = root
        self._level = level
        self._path: list[tuple[Node, int]] = []
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
        while node.level > self._level:
            index = bisect_left(node.keys, key)
            if index == len(node.keys):
                index -= 1
            node = self._enter(node, index)
        return node

    def advance(self) -> Node:
        """Go to the next node. Requires: this is not the last."""
        assert not self.last
        node, index = self._path.pop()
        while index + 1 == len(node.keys):
            node, index = self._path.pop()
        self.last = all(place + 1 == len(parent.keys) for parent, place in self._path)
        node = self._enter(node, index + 1)
        while node.level > self._level:
            node = self._enter(node, 0)
        return node

    def _enter(self, parent: Node, index: int) -> Node:
        self._path.append((parent, index))
        self.digest = parent.values[index]
        self.last = self.last and index + 1 == len(parent.keys)
        return self._nodes.child(parent, index)
