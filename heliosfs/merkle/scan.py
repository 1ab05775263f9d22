"""Reading a tree in order: its entries between two keys, or all its nodes."""

from bisect import bisect_left
from collections.abc import Iterator

from heliosfs.merkle.cursor import Step
from heliosfs.merkle.node import Node
from heliosfs.merkle.nodes import Nodes, check, floor_of

Entry = tuple[bytes, bytes]
"""A key with its value."""


def scan(nodes: Nodes, root: bytes, start: bytes, end: bytes | None) -> Iterator[Entry]:
    """The entries from `start` up to but without `end`, in order. Loads a node when it is reached."""
    if not root:
        return
    stack: list[Step] = []
    node = nodes.load(root)
    floor = None
    index = bisect_left(node.keys, start)
    while True:
        keys = node.keys
        if node.level == 0:
            stop = len(keys) if end is None else bisect_left(keys, end)
            yield from zip(keys[index:stop], node.values[index:stop], strict=True)
        elif index < len(keys):
            stack.append((node, index, floor))
            floor = floor_of(node, index, floor)
            node = nodes.child(node, index, floor)
            index = bisect_left(node.keys, start)
            continue
        if not stack:
            return
        node, index, floor = stack.pop()
        if end is not None and node.keys[index] >= end:
            return
        index += 1


def visit(nodes: Nodes, root: bytes, seen: set[bytes] | None = None) -> Iterator[tuple[bytes, Node]]:
    """All nodes of a tree with their digests, parents first, each checked. Leaves the cache as it is.

    A subtree whose digest is in `seen` is skipped; what is yielded is added to it.
    """
    seen = set() if seen is None else seen
    if not root or root in seen:
        return
    seen.add(root)
    node = nodes.peek(root)
    yield root, node
    stack: list[Step] = [(node, 0, None)] if node.level else []
    while stack:
        parent, index, floor = stack.pop()
        if index + 1 < len(parent.keys):
            stack.append((parent, index + 1, floor))
        digest = parent.values[index]
        if digest not in seen:
            seen.add(digest)
            floor = floor_of(parent, index, floor)
            node = check(parent, index, floor, nodes.peek(digest))
            yield digest, node
            if node.level:
                stack.append((node, 0, floor))


def walk(nodes: Nodes, root: bytes, seen: set[bytes] | None = None) -> Iterator[bytes]:
    """The digests of all nodes of a tree, parents first. Reads no leaf but a lone one.

    A subtree whose digest is in `seen` is skipped; what is yielded is added to it.
    """
    seen = set() if seen is None else seen
    if not root or root in seen:
        return
    seen.add(root)
    yield root
    stack = [nodes.peek(root)]
    while stack:
        parent = stack.pop()
        if parent.level == 0:
            continue
        for index, digest in enumerate(parent.values):
            if digest not in seen:
                seen.add(digest)
                yield digest
                if parent.level > 1:
                    stack.append(check(parent, index, floor_of(parent, index, None), nodes.peek(digest)))
