"""The difference of two trees, at a cost proportional to the difference.

Two streams, one for each tree, are compared head by head. A head is an entry or a whole subtree; two
subtrees with one digest are skipped together, anything else is opened, the higher one first, until
entries meet. Where the trees are cut alike this opens only nodes on the way to a change; where a change
has shifted the cuts, some neighbours more.
"""

from bisect import bisect_left
from collections.abc import Iterator

from heliosfs.merkle.node import Node
from heliosfs.merkle.nodes import Nodes, floor_of

Difference = tuple[bytes, bytes | None, bytes | None]
"""A key with its value in the one tree and in the other, None where it has none."""

_ENTRY = -1
"""The level of an entry: below the leaves."""


def difference(nodes: Nodes, a: bytes, b: bytes, start: bytes, end: bytes | None) -> Iterator[Difference]:
    """Keys from `start` up to but without `end` whose values differ, in order."""
    if a == b:
        return
    left, right = _Stream(nodes, a, start, end), _Stream(nodes, b, start, end)
    while not (left.done or right.done):
        if left.level > right.level:
            left.open()
        elif right.level > left.level:
            right.open()
        elif left.level == _ENTRY:
            if left.key < right.key:
                yield left.key, left.value, None
                left.skip()
            elif right.key < left.key:
                yield right.key, None, right.value
                right.skip()
            elif left.value == right.value:
                left.skip_equal(right)
            else:
                yield left.key, left.value, right.value
                left.skip()
                right.skip()
        elif left.value == right.value:
            left.skip_equal(right)
        else:
            left.open()
            right.open()
    for key, value in left.entries():
        yield key, value, None
    for key, value in right.entries():
        yield key, None, value


class _Stream:
    """What is left of a tree between two keys: its head, and behind it a stack of opened nodes."""

    __slots__ = (
        *("_end", "_floor", "_index", "_node", "_nodes", "_stack", "_start", "_stop"),
        *("done", "key", "level", "value"),
    )

    def __init__(self, nodes: Nodes, root: bytes, start: bytes, end: bytes | None) -> None:
        self._nodes = nodes
        self._start = start
        self._end = end
        self._stack: list[tuple[Node, int, int, bytes | None]] = []
        self.done = not root
        if root:
            self._take(nodes.load(root), None)

    def open(self) -> None:
        """Put the entries of the subtree at the head in its place."""
        floor = floor_of(self._node, self._index, self._floor)
        child = self._nodes.child(self._node, self._index, floor)
        self._stack.append((self._node, self._index + 1, self._stop, self._floor))
        self._take(child, floor)

    def skip(self) -> None:
        """Leave the head behind."""
        self._index += 1
        self._settle()

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries that are left."""
        while not self.done:
            if self.level == _ENTRY:
                yield self.key, self.value
                self.skip()
            else:
                self.open()

    def skip_equal(self, other: "_Stream") -> None:
        """Leave the head behind, in both, and all that follows it alike in its node: comparing slices is quick."""
        mine, others = self._node, other._node
        left, right = self._index, other._index
        most = min(self._stop - left, other._stop - right)
        count = 1
        step = 1 << (most.bit_length() - 1)
        while step:
            stop = count + step
            if (
                stop <= most
                and mine.keys[left + count : left + stop] == others.keys[right + count : right + stop]
                and mine.values[left + count : left + stop] == others.values[right + count : right + stop]
            ):
                count = stop
            step >>= 1
        self._index += count
        other._index += count
        self._settle()
        other._settle()

    def _take(self, node: Node, floor: bytes | None) -> None:
        keys = node.keys
        self._node = node
        self._floor = floor
        self._index = bisect_left(keys, self._start)
        self._stop = len(keys)
        if self._end is not None:
            # Above the leaves the child that holds `end` may begin before it.
            self._stop = min(len(keys), bisect_left(keys, self._end) + (node.level > 0))
        self.level = node.level - 1
        self._settle()

    def _settle(self) -> None:
        """Show the entry at the index as the head, or what follows when this node is used up."""
        while self._index >= self._stop:
            if not self._stack:
                self.done = True
                return
            self._node, self._index, self._stop, self._floor = self._stack.pop()
            self.level = self._node.level - 1
        self.key = self._node.keys[self._index]
        self.value = self._node.values[self._index]
