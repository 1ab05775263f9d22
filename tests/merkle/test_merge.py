"""Three-way merge: which keys they changed, and what we have there."""

from collections.abc import Iterator

from hypothesis import given

from heliosfs.merkle import EMPTY, divergences
from heliosfs.merkle.difference import Difference

from .strategies import changed, edits, examples, maps
from .support import apply, build, new_tree


@examples(80)
@given(maps, edits, edits)
def test_every_key_that_they_changed(
    base: dict[bytes, bytes], our_changes: dict[bytes, bytes | None], their_changes: dict[bytes, bytes | None]
) -> None:
    ours, theirs = changed(base, our_changes), changed(base, their_changes)
    tree, _ = new_tree()
    root = build(tree, base)
    our_root, their_root = apply(tree, root, our_changes), apply(tree, root, their_changes)
    found = list(divergences(tree.diff(root, our_root), tree.diff(root, their_root)))
    assert found == [
        (key, base.get(key), ours.get(key), theirs.get(key))
        for key in sorted(base.keys() | theirs.keys())
        if base.get(key) != theirs.get(key)
    ]


@examples(80)
@given(maps, edits)
def test_taking_all_of_theirs_where_we_changed_nothing(
    base: dict[bytes, bytes], their_changes: dict[bytes, bytes | None]
) -> None:
    tree, _ = new_tree()
    root = build(tree, base)
    their_root = apply(tree, root, their_changes)
    found = list(divergences(tree.diff(root, root), tree.diff(root, their_root)))
    assert all(mine == before for _, before, mine, _ in found)
    assert apply(tree, root, [(key, value) for key, _, _, value in found]) == their_root


def test_kinds_of_divergence() -> None:
    ours: list[Difference] = [
        (b"both alike", b"0", b"1"),
        (b"both differently", b"0", b"1"),
        (b"both removed", b"0", None),
        (b"only ours", b"0", b"1"),
        (b"removed by us", b"0", None),
    ]
    theirs: list[Difference] = [
        (b"both alike", b"0", b"1"),
        (b"both differently", b"0", b"2"),
        (b"both removed", b"0", None),
        (b"only theirs", b"0", b"2"),
        (b"removed by us", b"0", b"2"),
        (b"theirs is new", None, b"2"),
    ]
    assert list(divergences(ours, theirs)) == [
        (b"both alike", b"0", b"1", b"1"),
        (b"both differently", b"0", b"1", b"2"),
        (b"both removed", b"0", None, None),
        (b"only theirs", b"0", b"0", b"2"),
        (b"removed by us", b"0", None, b"2"),
        (b"theirs is new", None, None, b"2"),
    ]


def test_reads_no_further_than_it_must() -> None:
    def ours() -> Iterator[Difference]:
        yield b"a", None, b"1"
        yield b"z", None, b"1"
        raise AssertionError("read beyond the last key of theirs")

    assert list(divergences(ours(), [(b"b", None, b"2")])) == [(b"b", None, None, b"2")]


def test_nothing_to_merge() -> None:
    tree, _ = new_tree()
    root = build(tree, {b"a": b"1"})
    assert list(divergences(tree.diff(EMPTY, root), tree.diff(EMPTY, EMPTY))) == []
