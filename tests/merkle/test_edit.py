"""An edit gives the very tree that building the changed map gives, under every rule of cutting."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosfs.base.digests import digest
from heliosfs.merkle import EMPTY
from heliosfs.merkle.node import Node
from heliosfs.merkle.splitter import NODE_BYTES_MAX, boundaries

from .strategies import changed, edits, edits_of, examples, large_maps, maps
from .support import apply, build, check_shape, finish, new_tree


def sizes(rule: str) -> int:
    """Entries in a run, so that there are a few hundred nodes under each rule."""
    return 1500 if rule == "real" else 100


@examples(35)
@given(maps, edits)
def test_edit_equals_build(rule: str, entries: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> None:
    tree, _ = new_tree()
    root = apply(tree, build(tree, entries), changes)
    after = changed(entries, changes)
    assert root == build(new_tree()[0], after)
    assert dict(tree.scan(root)) == after
    check_shape(tree, root)


@examples(35)
@given(st.data())
def test_edits_of_large_maps(rule: str, draws: st.DataObject) -> None:
    entries = draws.draw(large_maps(sizes(rule)))
    tree, _ = new_tree()
    root = build(tree, entries)
    for _ in range(draws.draw(st.integers(1, 3))):
        changes = draws.draw(edits_of(entries))
        root = apply(tree, root, changes)
        entries = changed(entries, changes)
        assert root == build(new_tree()[0], entries)
        assert list(tree.scan(root)) == sorted(entries.items())
        check_shape(tree, root)


@examples(35)
@given(st.data())
def test_any_history_of_a_map_gives_its_root(rule: str, draws: st.DataObject) -> None:
    """Forks too: each edit starts from any earlier state, and no state is changed by what follows."""
    tree, _ = new_tree(cache_bytes=20_000)
    states: list[tuple[bytes, dict[bytes, bytes]]] = [(EMPTY, {})]
    for _ in range(draws.draw(st.integers(1, 10))):
        root, entries = draws.draw(st.sampled_from(states))
        changes = draws.draw(edits_of(entries))
        states.append((apply(tree, root, changes), changed(entries, changes)))
    for root, entries in states:
        assert list(tree.scan(root)) == sorted(entries.items())
        assert root == build(new_tree()[0], entries)


@examples(35)
@given(maps, st.randoms(use_true_random=False))
def test_one_by_one_in_any_order(rule: str, entries: dict[bytes, bytes], order: random.Random) -> None:
    tree, _ = new_tree()
    root = build(tree, entries)
    keys = list(entries)
    order.shuffle(keys)
    grown = EMPTY
    for key in keys:
        grown = apply(tree, grown, {key: entries[key]})
    assert grown == root
    order.shuffle(keys)
    for key in keys:
        grown = apply(tree, grown, {key: None})
    assert grown == EMPTY


@examples(35)
@given(st.data())
def test_removing_everything_gives_the_empty_map(rule: str, draws: st.DataObject) -> None:
    entries = draws.draw(large_maps(sizes(rule)))
    tree, _ = new_tree()
    assert apply(tree, build(tree, entries), dict.fromkeys(entries)) == EMPTY


@examples(35)
@given(st.data())
def test_changes_that_change_nothing(rule: str, draws: st.DataObject) -> None:
    entries = draws.draw(large_maps(sizes(rule)))
    tree, store = new_tree()
    root = build(tree, entries)
    objects = len(store.objects)
    absent: dict[bytes, bytes | None] = {key + b"\0": None for key in entries if key + b"\0" not in entries}
    assert apply(tree, root, {**entries, **absent, b"\xff" * 20: None}) == root
    assert len(store.objects) == objects


def test_the_empty_map() -> None:
    tree, store = new_tree()
    assert build(tree, {}) == EMPTY == b""
    assert apply(tree, EMPTY, {b"absent": None}) == EMPTY
    assert store.puts == 0


def test_a_level_with_one_node_is_the_root(rule: str) -> None:
    tree, _ = new_tree()
    entries = {b"%05d" % number: b"value" * 10 for number in range(20_000 if rule == "real" else 1000)}
    root = build(tree, entries)
    assert tree.nodes.load(root).level >= 2
    small = apply(tree, root, dict.fromkeys(list(entries)[1:]))
    assert tree.nodes.load(small) == Node(0, (b"00000",), (b"value" * 10,))


def test_long_keys_do_not_make_a_tower() -> None:
    """Each level has at most half the nodes of the one below, though two keys fill a node."""
    tree, _ = new_tree()
    entries = {b"%04d" % number + b"k" * 60_000: b"" for number in range(64)}
    root = build(tree, entries)
    assert tree.nodes.load(root).level <= 6
    check_shape(tree, root)


def keys_without_boundaries(count: int) -> list[bytes]:
    """Keys whose hashes never make a boundary before one is forced."""
    found: list[bytes] = []
    number = 0
    while len(found) < count:
        key = b"%08d" % number
        number += 1
        if not boundaries(0, [key], [b""], NODE_BYTES_MAX - 100)[0]:
            found.append(key)
    return found


def test_edits_in_a_run_of_forced_cuts() -> None:
    keys = keys_without_boundaries(6000)
    entries = dict.fromkeys(keys[1:], b"")
    tree, _ = new_tree()
    root = build(tree, entries)
    # It shifts all the forced cuts behind it.
    shifted = apply(tree, root, {keys[0]: b""})
    assert shifted == build(new_tree()[0], dict.fromkeys(keys, b""))
    assert apply(tree, shifted, {keys[0]: None}) == root
    check_shape(tree, shifted)


def test_an_edit_stores_only_what_it_touches() -> None:
    source = random.Random(1)
    entries = {source.randbytes(12): source.randbytes(44) for _ in range(30_000)}
    tree, store = new_tree()
    root = build(tree, entries)
    assert tree.nodes.load(root).level == 2
    for key in source.sample(sorted(entries), 50):
        puts, loads = store.puts, tree.nodes.loads
        apply(tree, root, {key: bytes(44)})
        assert store.puts - puts == 3, "one node per level"
        assert tree.nodes.loads == loads
    for _ in range(50):
        puts = store.puts
        apply(tree, root, {source.randbytes(12): b"new"})
        # The cuts meet again within a node or two; never has a run of luck here made it more.
        assert store.puts - puts <= 9


def test_a_step_is_a_few_nodes() -> None:
    source = random.Random(2)
    entries = {source.randbytes(12): source.randbytes(44) for _ in range(20_000)}
    tree, store = new_tree()
    steps = tree.edit(EMPTY, sorted(entries.items()))
    puts = 0
    for _ in steps:
        assert store.puts - puts <= 2
        puts = store.puts
    root = build(tree, entries)
    everything: list[tuple[bytes, bytes | None]] = [(key, None) for key in sorted(entries)]
    cold, store = type(tree)(store, 64 << 20), store
    gets = store.gets
    for _ in cold.edit(root, everything):
        assert store.gets - gets <= 4
        gets = store.gets


def test_very_many_changes_within_one_node_take_many_steps() -> None:
    tree, _ = new_tree()
    root = build(tree, {b"a": b"", b"z": b""})
    absent: list[tuple[bytes, bytes | None]] = [(b"b%06d" % number, None) for number in range(20_000)]
    assert sum(1 for _ in tree.edit(root, absent)) > 100


def test_very_many_changes_that_change_nothing_stop_at_the_leaves() -> None:
    tree, store = new_tree()
    root = build(tree, {b"%05d" % number: b"value" * 10 for number in range(1000)})
    puts = store.puts
    assert apply(tree, root, {b"00500+%05d" % number: None for number in range(300)}) == root
    assert store.puts - puts <= 1


@pytest.mark.parametrize("value", [None, b"", b"v" * 50])
@pytest.mark.parametrize("count", [63, 64, 65, 128, 129, 500])
@pytest.mark.parametrize("place", [b"", b"00000", b"00150", b"00299"])
def test_crowds_between_two_keys(rule: str, place: bytes, count: int, value: bytes | None) -> None:
    tree, _ = new_tree()
    entries = {b"%05d" % number: b"value" for number in range(300)}
    crowd: dict[bytes, bytes | None] = {place + b"+%05d" % number: value for number in range(count)}
    root = apply(tree, build(tree, entries), crowd)
    assert root == build(new_tree()[0], changed(entries, crowd))


def test_an_abandoned_edit_changes_nothing() -> None:
    source = random.Random(3)
    entries = {source.randbytes(12): source.randbytes(44) for _ in range(5000)}
    tree, _ = new_tree()
    root = build(tree, entries)
    changes: list[tuple[bytes, bytes | None]] = [(key, b"") for key in sorted(entries)]
    steps = tree.edit(root, changes)
    for _ in range(20):
        next(steps)
    steps.close()
    assert list(tree.scan(root)) == sorted(entries.items())
    assert finish(tree.edit(root, changes)) == build(new_tree()[0], dict.fromkeys(entries, b""))


def test_roots_are_part_of_the_stored_format() -> None:
    """Another rule, hash or encoding would give equal maps unequal roots across versions."""
    tree, _ = new_tree()
    entries = {b"%06d" % number: (digest(b"%d" % number) * 3)[: number % 90] for number in range(20_000)}
    assert build(tree, {b"key": b"value"}).hex() == GOLDEN_SMALL
    assert build(tree, entries).hex() == GOLDEN_LARGE


GOLDEN_SMALL = "2eb6a64e9256e5603ad43187e6e9d498c376a17ef8b687ca0f03771962249917"
GOLDEN_LARGE = "1e9a89387d3849a0e983c183b66dae5e17f1054f63a80c2b413dfc1cd9259b24"
