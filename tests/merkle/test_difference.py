"""The difference of two maps: right, in order, and as cheap as it is small."""

import random

from hypothesis import given
from hypothesis import strategies as st

from heliosfs.merkle import EMPTY, Tree
from heliosfs.merkle.difference import Difference

from .strategies import changed, edits, edits_of, examples, keys, large_maps, maps
from .support import MemoryStore, apply, build, new_tree


def expected(
    a: dict[bytes, bytes], b: dict[bytes, bytes], start: bytes = b"", end: bytes | None = None
) -> list[Difference]:
    return [
        (key, a.get(key), b.get(key))
        for key in sorted(a.keys() | b.keys())
        if key >= start and (end is None or key < end) and a.get(key) != b.get(key)
    ]


@examples(60)
@given(maps, maps, edits, keys, st.none() | keys)
def test_difference(
    rule: str,
    a: dict[bytes, bytes],
    unrelated: dict[bytes, bytes],
    changes: dict[bytes, bytes | None],
    start: bytes,
    end: bytes | None,
) -> None:
    tree, _ = new_tree()
    root = build(tree, a)
    for b in (unrelated, changed(a, changes), {}, a):
        other = build(tree, b)
        assert list(tree.diff(root, other)) == expected(a, b)
        assert list(tree.diff(other, root)) == expected(b, a)
        assert list(tree.diff(root, other, start, end)) == expected(a, b, start, end)


@examples(35)
@given(st.data())
def test_difference_of_large_maps(rule: str, draws: st.DataObject) -> None:
    a = draws.draw(large_maps(1500 if rule == "real" else 100))
    b = changed(a, draws.draw(edits_of(a)))
    bounds = sorted(a) or [b""]
    start = draws.draw(st.sampled_from([b"", *bounds[:: max(1, len(bounds) // 9)]]))
    end = draws.draw(st.none() | st.sampled_from(bounds[:: max(1, len(bounds) // 9)]))
    tree, _ = new_tree(cache_bytes=20_000)
    roots = build(tree, a), build(tree, b)
    assert list(tree.diff(*roots)) == expected(a, b)
    assert list(tree.diff(*roots, start, end)) == expected(a, b, start, end)


def large(count: int) -> tuple[dict[bytes, bytes], MemoryStore, Tree, bytes]:
    source = random.Random(11)
    entries = {source.randbytes(12): source.randbytes(44) for _ in range(count)}
    tree, store = new_tree()
    return entries, store, tree, build(tree, entries)


def loads(store: MemoryStore, a: bytes, b: bytes) -> int:
    """Nodes a difference reads when none is in memory."""
    cold = Tree(store, 64 << 20)
    list(cold.diff(a, b))
    return cold.nodes.loads


def test_equal_trees_are_not_even_read() -> None:
    _, store, _, root = large(2000)
    assert loads(store, root, root) == 0
    assert loads(store, EMPTY, EMPTY) == 0


def test_cost_is_that_of_the_changes() -> None:
    entries, store, tree, root = large(40_000)
    height = tree.nodes.load(root).level
    source = random.Random(12)
    for count in (1, 10):
        replaced = apply(tree, root, {key: bytes(44) for key in source.sample(sorted(entries), count)})
        # The way to each changed entry in both trees.
        assert loads(store, root, replaced) <= 2 * (1 + height * count)
        inserted = apply(tree, root, {source.randbytes(12): b"" for _ in range(count)})
        # And a neighbour or two of each where the cuts moved.
        assert loads(store, root, inserted) <= 6 * (1 + height * count)
        removed = apply(tree, root, dict.fromkeys(source.sample(sorted(entries), count)))
        assert loads(store, removed, root) <= 6 * (1 + height * count)


def test_cost_of_a_removed_range_is_that_of_the_range() -> None:
    entries, store, tree, root = large(40_000)
    ordered = sorted(entries)
    for first, last in ((0, 2000), (20_000, 22_000), (38_000, 40_000)):
        shorter = apply(tree, root, dict.fromkeys(ordered[first:last]))
        # 2000 entries of 60 bytes are some 30 leaves.
        assert loads(store, root, shorter) <= 60


def test_cost_within_bounds_is_that_of_the_bounds() -> None:
    entries, store, tree, root = large(40_000)
    other = apply(tree, root, {key: bytes(44) for key in entries})
    cold = Tree(store, 64 << 20)
    found = list(cold.diff(root, other, b"\x80", b"\x80\x10"))
    assert [key for key, _, _ in found] == [key for key in sorted(entries) if b"\x80" <= key < b"\x80\x10"]
    assert len(found) > 0
    assert cold.nodes.loads <= 12


def test_difference_goes_on_while_other_roots_are_made() -> None:
    entries, _, tree, root = large(3000)
    other = apply(tree, root, {key: bytes(44) for key in entries})
    latest = root
    seen = 0
    for key, before, after in tree.diff(root, other):
        assert (before, after) == (entries[key], bytes(44))
        seen += 1
        if seen % 200 == 0:
            latest = apply(tree, latest, {key: None})
    assert seen == len(entries)
