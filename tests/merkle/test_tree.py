"""Reading: get, scan, walk, visit, and the cache of decoded nodes."""

import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosfs.merkle import EMPTY, Tree

from .strategies import examples, keys, large_maps, maps
from .support import MemoryStore, apply, build, new_tree


def random_entries(count: int, seed: int = 1) -> dict[bytes, bytes]:
    source = random.Random(seed)
    return {source.randbytes(12): source.randbytes(44) for _ in range(count)}


@examples(35)
@given(maps, st.lists(keys))
def test_get(rule: str, entries: dict[bytes, bytes], others: list[bytes]) -> None:
    tree, _ = new_tree()
    root = build(tree, entries)
    for key in [*entries, *others, b"", b"\xff" * 301]:
        assert tree.get(root, key) == entries.get(key)


@examples(35)
@given(large_maps(400))
def test_get_beside_every_key(rule: str, entries: dict[bytes, bytes]) -> None:
    tree, _ = new_tree(cache_bytes=50_000)
    root = build(tree, entries)
    for key in entries:
        assert tree.get(root, key) == entries[key]
        for other in (key + b"\0", key[:-1]):
            assert tree.get(root, other) == entries.get(other)


@examples(35)
@given(large_maps(400))
def test_before(rule: str, entries: dict[bytes, bytes]) -> None:
    tree, _ = new_tree(cache_bytes=50_000)
    root = build(tree, entries)
    ordered = sorted(entries.items())
    for position, (key, _) in enumerate(ordered):
        assert tree.before(root, key) == (ordered[position - 1] if position else None)
        assert tree.before(root, key + b"\0") == ordered[position]
    assert tree.before(root, b"") is None
    assert tree.before(root, b"\xff" * 301) == (ordered[-1] if ordered else None)


@examples(35)
@given(maps, keys, st.none() | keys)
def test_scan(rule: str, entries: dict[bytes, bytes], start: bytes, end: bytes | None) -> None:
    tree, _ = new_tree()
    root = build(tree, entries)
    expected = [(key, entries[key]) for key in sorted(entries) if key >= start and (end is None or key < end)]
    assert list(tree.scan(root, start, end)) == expected


def test_scan_at_every_key(rule: str) -> None:
    entries = random_entries(400)
    tree, _ = new_tree()
    root = build(tree, entries)
    ordered = sorted(entries.items())
    for position, (key, _) in enumerate(ordered):
        assert list(islice(tree.scan(root, key), 3)) == ordered[position : position + 3]
        assert (
            list(tree.scan(root, key + b"\0", ordered[min(position + 7, 399)][0]))
            == (ordered[position + 1 : min(position + 7, 399)])
        )


def test_empty_map() -> None:
    tree, store = new_tree()
    assert tree.get(EMPTY, b"") is None
    assert list(tree.scan(EMPTY)) == []
    assert list(tree.walk(EMPTY)) == []
    assert list(tree.visit(EMPTY)) == []
    assert store.gets == 0


def test_scan_loads_nodes_when_it_reaches_them() -> None:
    tree, store = new_tree()
    root = build(tree, random_entries(20_000))
    cold = Tree(store, 64 << 20)
    entries = cold.scan(root, b"\x80")
    assert cold.nodes.loads == 0
    next(entries)
    assert cold.nodes.loads == cold.nodes.load(root).level + 1
    bounded = Tree(store, 64 << 20)
    list(bounded.scan(root, b"\x80", b"\x80\x01"))
    assert bounded.nodes.loads <= 5


def test_scan_stops_at_its_end_without_a_look_at_the_next_node() -> None:
    tree, store = new_tree()
    root = build(tree, random_entries(2000))
    top = tree.nodes.load(root)
    assert top.level == 1
    for end, loads in ((top.keys[0], 2), (top.keys[0] + b"\0", 3)):
        cold = Tree(store, 64 << 20)
        list(cold.scan(root, b"", end))
        assert cold.nodes.loads == loads


def test_scan_goes_on_while_other_roots_are_made() -> None:
    entries = random_entries(3000)
    tree, _ = new_tree(cache_bytes=10_000)
    root = build(tree, entries)
    seen = []
    other = root
    for position, entry in enumerate(tree.scan(root)):
        seen.append(entry)
        if position % 100 == 0:
            other = apply(tree, other, {entry[0]: None, entry[0] + b"x": b"new"})
    assert seen == sorted(entries.items())


def reachable(store: MemoryStore, tree: Tree, root: bytes) -> set[bytes]:
    node = tree.nodes.peek(root)
    if node.level == 0:
        return {root}
    return {root}.union(*(reachable(store, tree, child) for child in node.values))


def test_walk_and_visit_give_every_node_once(rule: str) -> None:
    tree, store = new_tree()
    root = build(tree, random_entries(2000))
    # Built at once, so every stored node belongs to the tree.
    expected = reachable(store, tree, root)
    assert expected == set(store.objects)
    walked = list(tree.walk(root))
    visited = list(tree.visit(root))
    assert sorted(walked) == sorted(expected)
    assert sorted(name for name, _ in visited) == sorted(expected)
    assert all(tree.nodes.peek(name) == node for name, node in visited)


def test_walk_and_visit_skip_what_was_seen(rule: str) -> None:
    tree, store = new_tree()
    entries = random_entries(2000)
    first = build(tree, entries)
    second = apply(tree, first, {sorted(entries)[1000]: b"other"})
    new = reachable(store, tree, second) - reachable(store, tree, first)
    for walk in (tree.walk, lambda root, seen: (name for name, _ in tree.visit(root, seen))):
        seen: set[bytes] = set()
        assert set(walk(first, seen)) == reachable(store, tree, first)
        assert list(walk(first, seen)) == []
        assert set(walk(second, seen)) == new
        assert seen == reachable(store, tree, first) | new


def test_walk_reads_no_leaves() -> None:
    tree, store = new_tree()
    root = build(tree, random_entries(20_000))
    cold = Tree(store, 64 << 20)
    inner = sum(1 for _, node in tree.visit(root) if node.level)
    assert sum(1 for _ in cold.walk(root)) == len(store.objects)
    assert cold.nodes.loads == inner


@pytest.mark.parametrize("cache_bytes", [0, 20_000, 200_000])
def test_the_cache_is_bounded_and_answers_stay_right(cache_bytes: int) -> None:
    entries = random_entries(5000)
    tree, _ = new_tree(cache_bytes)
    root = build(tree, entries)
    source = random.Random(2)
    for key in source.choices(sorted(entries), k=3000):
        assert tree.get(root, key) == entries[key]
        assert tree.nodes.cached_bytes() <= cache_bytes


def test_what_is_used_again_and_again_stays_in_the_cache() -> None:
    entries = random_entries(20_000)
    tree, store = new_tree()
    root = build(tree, entries)
    small = Tree(store, 400_000)
    ordered = sorted(entries)
    for key in ordered:
        small.get(root, key)
        small.get(root, ordered[0])
    leaves = sum(1 for _, node in tree.visit(root) if node.level == 0)
    inner = sum(1 for _, node in tree.visit(root) if node.level)
    assert small.nodes.loads == leaves + inner


def test_a_warm_read_loads_nothing() -> None:
    entries = random_entries(5000)
    tree, store = new_tree()
    root = build(tree, entries)
    assert list(tree.scan(root)) == sorted(entries.items())
    assert store.gets == 0, "nodes just made are in the cache"


def test_the_cache_counts_content() -> None:
    tree, _ = new_tree()
    build(tree, {b"key": b"v" * 60_000})
    assert 60_000 < tree.nodes.cached_bytes() < 61_000


def test_a_node_larger_than_the_cache_is_not_kept() -> None:
    tree, store = new_tree(cache_bytes=50_000)
    root = build(tree, {b"key": b"v" * 60_000})
    gets = store.gets
    assert tree.get(root, b"key") == b"v" * 60_000
    assert store.gets == gets + 1
    assert tree.nodes.cached_bytes() == 0
