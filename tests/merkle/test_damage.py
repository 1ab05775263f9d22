"""Trees over a store that hands out wrong nodes: answers or Corruption, never another exception.

The real store checks digests, so this is what bugs and malice could still bring about.
"""

import random
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosfs.base.errors import Corruption
from heliosfs.merkle import Node, Tree
from heliosfs.merkle.node import encode

from .strategies import examples
from .support import MemoryStore, apply, build, new_tree


@cache
def whole_tree(rule: str) -> tuple[dict[bytes, bytes], MemoryStore, bytes]:
    source = random.Random(21)
    count = 20_000 if rule == "real" else 300
    entries = {source.randbytes(8): source.randbytes(40) for _ in range(count)}
    tree, store = new_tree()
    return entries, store, build(tree, entries)


def reads(tree: Tree, root: bytes, other: bytes, key: bytes) -> list[Callable[[], object]]:
    return [
        lambda: tree.get(root, key),
        lambda: list(tree.scan(root)),
        lambda: list(tree.scan(root, key)),
        lambda: list(tree.diff(root, other)),
        lambda: list(tree.diff(other, root, key)),
        lambda: list(tree.walk(root)),
        lambda: list(tree.visit(root)),
        lambda: apply(tree, root, {key: b"x", b"": None}),
        lambda: apply(tree, root, dict.fromkeys([key[:-1], key, key + b"1", b"\xff" * 9])),
    ]


WALK = 5
"""The number of the walk among the reads; the visit follows."""


class Damaged(MemoryStore):
    """The objects of another store, some of them replaced. Keeps apart what is put into it."""

    def __init__(self, store: MemoryStore, replaced: dict[bytes, bytes]) -> None:
        super().__init__()
        self.objects = {**store.objects, **replaced}


@examples(30)
@given(st.data())
def test_damaged_nodes(rule: str, draws: st.DataObject) -> None:
    entries, store, root = whole_tree(rule)
    key = draws.draw(st.sampled_from(sorted(entries)))
    # A copy, so that the next example finds the same store.
    store = Damaged(store, {})
    other = apply(Tree(store, 1 << 20), root, {key: b"other"})
    way = way_to(Tree(store, 1 << 20), root, key)
    replaced = {}
    for name in draws.draw(st.lists(st.sampled_from(way), min_size=1, unique=True)):
        data = bytearray(store.objects[name])
        match draws.draw(st.sampled_from(["swap", "flip", "cut", "entries", "level"])):
            case "swap":
                data = bytearray(store.objects[draws.draw(st.sampled_from(sorted(store.objects)))])
            case "flip":
                data[draws.draw(st.integers(0, len(data) - 1))] ^= draws.draw(st.integers(1, 255))
            case "cut":
                del data[draws.draw(st.integers(0, len(data) - 1)) :]
            case "entries":
                node = Tree(store, 0).nodes.peek(name)
                place = draws.draw(st.integers(0, len(node.keys) - 1))
                keys = list(node.keys)
                keys[place] = draws.draw(st.sampled_from([b"", keys[place] + b"\0", keys[place][:-1], b"\xff" * 9]))
                data = bytearray(encode(Node(node.level, tuple(keys), node.values)))
            case _:
                node = Tree(store, 0).nodes.peek(name)
                data = bytearray(encode(Node(draws.draw(st.integers(0, 4)), node.keys, node.values)))
        replaced[name] = bytes(data)
    number = draws.draw(st.integers(0, 8), "read")
    for chosen in {number, 7}:
        tree = Tree(Damaged(store, replaced), 1 << 20)
        try:
            reads(tree, root, other, key)[chosen]()
        except Corruption as error:
            assert error.what == "node"


def way_to(tree: Tree, root: bytes, key: bytes) -> list[bytes]:
    """The digests of the nodes on the way to a key."""
    way = [root]
    node = tree.nodes.peek(root)
    while node.level:
        way.append(next(child for last, child in zip(node.keys, node.values, strict=True) if last >= key))
        node = tree.nodes.peek(way[-1])
    return way


@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("depth", range(3))
def test_missing_nodes(number: int, depth: int) -> None:
    entries, store, root = whole_tree("real")
    key = sorted(entries)[10_000]
    damaged = Damaged(store, {})
    other = apply(Tree(damaged, 1 << 20), root, {sorted(entries)[0]: b"other", key: b"other"})
    way = way_to(Tree(damaged, 1 << 20), root, key)
    assert len(way) == 3
    del damaged.objects[way[depth]]
    reading = reads(Tree(damaged, 1 << 20), root, other, key)[number]
    if number == WALK and depth == 2:
        # It does not read leaves.
        reading()
        return
    with pytest.raises(Corruption) as caught:
        reading()
    assert caught.value.digest == way[depth]


def test_a_tree_that_contains_itself() -> None:
    store = MemoryStore()
    name = b"r" * 32
    store.objects[name] = encode(Node(1, (b"a", b"m"), (name, name)))
    for number, read in enumerate(reads(Tree(store, 1 << 20), name, b"", b"b")):
        if number in (WALK, WALK + 1):
            # They have seen it before they come to it again.
            read()
            continue
        with pytest.raises(Corruption):
            read()


def child_faults() -> list[tuple[str, Node]]:
    return [
        ("level too high", Node(1, (b"c", b"m"), (b"d" * 32, b"d" * 32))),
        ("last key too small", Node(0, (b"c", b"l"), (b"", b""))),
        ("last key too large", Node(0, (b"c", b"n"), (b"", b""))),
        ("first key before the last child's end", Node(0, (b"b", b"m"), (b"", b""))),
    ]


@pytest.mark.parametrize(("fault", "child"), child_faults(), ids=[fault for fault, _ in child_faults()])
def test_children_that_are_not_what_the_parent_says(fault: str, child: Node) -> None:
    store = MemoryStore()
    first = store.put(encode(Node(0, (b"a", b"b"), (b"", b""))), 2)
    second = store.put(encode(child), 2)
    root = store.put(encode(Node(1, (b"b", b"m"), (first, second))), 2)
    for read in reads(Tree(store, 1 << 20), root, b"", b"m")[1:]:
        try:
            read()
        except Corruption as error:
            assert error.digest == second
        else:
            assert read is not None
    with pytest.raises(Corruption):
        list(Tree(store, 1 << 20).scan(root))


def test_get_beyond_the_last_key_of_a_child() -> None:
    store = MemoryStore()
    child = store.put(encode(Node(0, (b"a", b"b"), (b"", b""))), 2)
    root = store.put(encode(Node(1, (b"c",), (child,))), 2)
    tree = Tree(store, 1 << 20)
    assert tree.get(root, b"a") == b""
    assert tree.get(root, b"d") is None
    with pytest.raises(Corruption) as caught:
        tree.get(root, b"c")
    assert caught.value.digest == child


def test_order_across_parents() -> None:
    """The first child of a node begins behind the last child of the node before."""
    store = MemoryStore()
    a = store.put(encode(Node(0, (b"a", b"c"), (b"", b""))), 2)
    b = store.put(encode(Node(0, (b"d",), (b"",))), 2)
    wrong = store.put(encode(Node(0, (b"b", b"e"), (b"", b""))), 2)
    last = store.put(encode(Node(0, (b"f",), (b"",))), 2)
    left = store.put(encode(Node(1, (b"c", b"d"), (a, b))), 2)
    right = store.put(encode(Node(1, (b"e", b"f"), (wrong, last))), 2)
    root = store.put(encode(Node(2, (b"d", b"f"), (left, right))), 2)
    for read in (
        lambda tree: list(tree.scan(root)),
        lambda tree: list(tree.visit(root)),
        lambda tree: list(tree.diff(root, b"")),
        lambda tree: apply(tree, root, {b"e": b"new"}),
        lambda tree: apply(tree, root, {b"c": None, b"d": None}),
    ):
        with pytest.raises(Corruption) as caught:
            read(Tree(store, 1 << 20))
        assert caught.value.digest == wrong
