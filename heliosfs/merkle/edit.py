"""Edits: from a root and a sorted list of changes to the root of the changed map.

Each level is a sorted map, so an edit goes level by level: the changes of one level turn into changes of
the level above (the last keys of nodes that are gone, the last keys and digests of new ones), until one
node is left.

On a level the work starts at the first node that a change touches. Its entries, with the changes merged
in, are cut anew, and so are those of the nodes after it, until a new boundary falls on an old one with no
change in the node that follows. From there the old cuts hold (the splitter looks at nothing before the
last boundary), so everything up to the next change keeps its nodes.

Invariant: the result is the very tree that building the changed map from nothing gives. An edit stores
nodes and changes nothing else: one that is abandoned leaves only unreferenced nodes behind.
"""

from bisect import bisect_left
from collections.abc import Generator, Sequence

from heliosfs.merkle.cursor import LevelCursor
from heliosfs.merkle.node import Node
from heliosfs.merkle.nodes import Nodes
from heliosfs.merkle.splitter import boundaries

Change = tuple[bytes, bytes | None]
"""A key with its new value, or None to remove it."""

EMPTY = b""
"""The root of the empty map."""

_SLICE_CHANGES = 64
"""Changes merged at a time: merging and cutting so many takes some 50 us."""


def edit(nodes: Nodes, root: bytes, changes: Sequence[Change]) -> Generator[None, None, bytes]:
    """Apply changes, sorted by key and each key once; returns the new root.

    Yields after every node or so, some 50 us of work.
    """
    if not root:
        return (yield from _raise(nodes, 0, changes))
    height = nodes.load(root).level
    for level in range(height + 1):
        if not changes:
            return root
        changes = yield from _Level(nodes, level, LevelCursor(nodes, root, level)).apply(changes)
        # Letting go of very many changes takes a while of its own.
        yield
    if not changes:
        return root
    return (yield from _raise(nodes, height + 1, _with_root(changes, nodes.load(root).keys[-1], root)))


def _with_root(changes: Sequence[Change], key: bytes, root: bytes) -> list[Change]:
    """What the top level has become: the old top node, unless it is gone, and the new ones."""
    entries = list(changes)
    index = bisect_left(entries, key, key=_key)
    if index == len(entries) or entries[index][0] != key:
        entries.insert(index, (key, root))
    return [entry for entry in entries if entry[1] is not None]


def _raise(nodes: Nodes, level: int, entries: Sequence[Change]) -> Generator[None, None, bytes]:
    """Build levels over the entries until one node is left; returns the root."""
    while level == 0 or len(entries) > 1:
        entries = yield from _Level(nodes, level, None).apply(entries)
        level += 1
    return _lowest(nodes, entries[0][1] or EMPTY) if entries else EMPTY


def _lowest(nodes: Nodes, root: bytes) -> bytes:
    """The root without the levels that an edit left with a single node."""
    node = nodes.load(root)
    while node.level and len(node.keys) == 1:
        root = node.values[0]
        node = nodes.child(node, 0, None)
    return root


def _key(change: Change) -> bytes:
    return change[0]


class _Level:
    """One level in the making. The changes it means for the level above gather, in order, in `_above`."""

    def __init__(self, nodes: Nodes, level: int, cursor: LevelCursor | None) -> None:
        self._nodes = nodes
        self._level = level
        self._cursor = cursor
        self._above: list[Change] = []
        # The entries since the last boundary.
        self._keys: list[bytes] = []
        self._values: list[bytes] = []
        self._size = 0

    def apply(self, changes: Sequence[Change]) -> Generator[None, None, list[Change]]:
        """Apply the changes of this level; returns those of the level above."""
        position = 0
        if self._cursor is None:
            yield from self._merge(Node(self._level, (), ()), b"", True, changes, position)
            self._finish()
        else:
            while position < len(changes):
                position = yield from self._region(self._cursor, changes, position)
        return self._above

    def _region(self, cursor: LevelCursor, changes: Sequence[Change], position: int) -> Generator[None, None, int]:
        """Rebuild from the node of the next change until the boundaries meet; returns the next change."""
        node = cursor.seek(changes[position][0])
        while True:
            position = yield from self._merge(node, cursor.digest, cursor.last, changes, position)
            if cursor.last:
                self._finish()
                return position
            if not self._keys:
                return position
            node = cursor.advance()

    def _merge(
        self, node: Node, digest: bytes, last: bool, changes: Sequence[Change], position: int
    ) -> Generator[None, None, int]:
        """Cut the entries of an old node, with the changes that fall into it; returns the next change.

        In slices, so that a step stays short when very many changes fall into one node.
        """
        start = 0
        whole = not self._keys
        bound = None if last else node.keys[-1]
        while True:
            keys: list[bytes] = []
            values: list[bytes] = []
            stop = min(len(changes), position + _SLICE_CHANGES)
            start, position = _mix(node, start, bound, changes, position, stop, keys, values)
            if position < stop or stop == len(changes):
                break
            whole = False
            yield from self._append(keys, values)
        keys += node.keys[start:]
        values += node.values[start:]
        if whole and tuple(keys) == node.keys:
            if tuple(values) == node.values:
                yield
                return position
            if list(map(len, values)) == list(map(len, node.values)):
                # The same keys and sizes since the same boundary are cut in the same places.
                self._emit(keys, values)
                yield
                return position
        yield from self._append(keys, values)
        if node.keys:
            self._retire(node.keys[-1], digest)
        return position

    def _append(self, keys: list[bytes], values: list[bytes]) -> Generator[None]:
        """Add entries, and end nodes where the splitter says."""
        ends, self._size = boundaries(self._level, keys, values, self._size)
        start = 0
        for end in ends:
            self._emit(self._keys + keys[start:end], self._values + values[start:end])
            self._keys.clear()
            self._values.clear()
            start = end
            yield
        self._keys += keys[start:]
        self._values += values[start:]
        yield

    def _emit(self, keys: list[bytes], values: list[bytes]) -> None:
        """Store a node that ends at a boundary."""
        digest = self._nodes.save(Node(self._level, tuple(keys), tuple(values)))
        self._above.append((keys[-1], digest))

    def _retire(self, key: bytes, digest: bytes) -> None:
        """An old node with this last key and digest has been used up."""
        above = self._above
        # Of the last old node the key may lie before those of new ones.
        index = bisect_left(above, key, key=_key)
        if index == len(above) or above[index][0] != key:
            above.insert(index, (key, None))
        elif above[index][1] == digest:
            del above[index]

    def _finish(self) -> None:
        """The level ends here: so does the last node, boundary or not."""
        if not self._keys:
            return
        keys, values = tuple(self._keys), tuple(self._values)
        digest = self._nodes.save(Node(self._level, keys, values))
        # Its key may lie before those of old nodes at the end that are gone.
        index = bisect_left(self._above, keys[-1], key=_key)
        if index < len(self._above) and self._above[index][0] == keys[-1]:
            self._above[index] = (keys[-1], digest)
        else:
            self._above.insert(index, (keys[-1], digest))
        self._keys.clear()
        self._values.clear()
        self._size = 0


def _mix(
    node: Node,
    start: int,
    bound: bytes | None,
    changes: Sequence[Change],
    position: int,
    stop: int,
    keys: list[bytes],
    values: list[bytes],
) -> tuple[int, int]:
    """Merge changes up to `stop` or `bound` with the entries of a node before them, from `start` on.

    Appends to `keys` and `values`; returns where it stands in the node and in the changes.
    """
    old_keys, old_values = node.keys, node.values
    while position < stop:
        key, value = changes[position]
        if bound is not None and key > bound:
            break
        assert not position or changes[position - 1][0] < key
        index = bisect_left(old_keys, key, start)
        keys += old_keys[start:index]
        values += old_values[start:index]
        start = index + (index < len(old_keys) and old_keys[index] == key)
        if value is not None:
            keys.append(key)
            values.append(value)
        position += 1
    return start, position
