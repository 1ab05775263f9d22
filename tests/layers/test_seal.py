"""Folding a delta into the tree below it, against a dictionary of bytes."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosfs.base.keys import ENTRY, EXTENT, INODE, LINK, OFFSET_BYTES, SYMLINK, XATTR, key, link_suffix, split
from heliosfs.base.records import CHUNK, HOLE, encode_extent
from heliosfs.layers import seal, stack
from heliosfs.layers.delta import MADE, REMOVED, Delta
from heliosfs.layers.extents import ExtentMap
from heliosfs.layers.layer import Layer
from tests.merkle.support import build, finish, new_tree

INO = 16
OTHERS = {key(ino, INODE): b"other" for ino in (INO - 1, INO + 1)}

Model = dict[int, tuple[bytes, int]]
"""Which byte of which source each byte of the file is."""


def digest_of(number: int) -> bytes:
    return number.to_bytes(2, "big") * 16


@st.composite
def extents(draw: st.DrawFn, kinds: tuple[int, ...]) -> ExtentMap:
    made = ExtentMap()
    ranges = st.tuples(st.integers(0, 120), st.integers(1, 20), st.sampled_from(kinds), st.integers(0, 5))
    for start, size, kind, skip in draw(st.lists(ranges, max_size=25)):
        source = None if kind == HOLE else digest_of(draw(st.integers(0, 60_000)))
        made.set(start, start + size, kind, source, 0 if kind == HOLE else skip)
    return made


def laid_over(model: Model, pieces: ExtentMap) -> Model:
    result = dict(model)
    for start, end, kind, source, skip in pieces.extents():
        for at in range(start, end):
            if kind == HOLE:
                result.pop(at, None)
            else:
                assert isinstance(source, bytes)
                result[at] = source, skip + at - start
    return result


def entries_of(pieces: ExtentMap) -> dict[bytes, bytes]:
    return {
        key(INO, EXTENT, extent[0].to_bytes(OFFSET_BYTES, "big")): encode_extent(*extent)
        for extent in pieces.extents()
        if extent[2] != HOLE
    }


@given(extents((CHUNK,)), extents((CHUNK, HOLE)), st.sampled_from([None, MADE, REMOVED]), st.sampled_from([4, 1 << 20]))
def test_extents_are_laid_over_those_below(below: ExtentMap, above: ExtentMap, fresh: int | None, near: int) -> None:
    """`near`: pieces farther apart than an extent of the tree is long, and all of them in one cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seal, "TREE_EXTENT_BYTES_MAX", max(near, 20))
        tree, _ = new_tree()
        root = build(tree, {**OTHERS, **(entries_of(below) if fresh != MADE else {}), key(INO, SYMLINK): b"old"})
        delta = Delta()
        delta.fresh, delta.made = fresh is not None, fresh == MADE
        delta.inode, delta.extents = b"inode", above
        changes = list(seal.tree_changes(tree, root, INO, delta))
        sealed = finish(tree.edit(root, changes))
    keys = [change[0] for change in changes]
    assert keys == sorted(set(keys)), "an edit takes each key once, in order"
    found: Model = {}
    for start, end, kind, source, skip in stack.resolve(tree, Layer(1, None, sealed), INO, 0, 200):
        if kind != HOLE:
            assert isinstance(source, bytes)
            found |= {at: (source, skip + at - start) for at in range(start, end)}
    assert found == laid_over(laid_over({}, below) if fresh is None else {}, above)
    assert tree.get(sealed, key(INO, INODE)) == b"inode"
    assert (tree.get(sealed, key(INO, SYMLINK)) is None) == (fresh == REMOVED)
    assert all(tree.get(sealed, other) == value for other, value in OTHERS.items())


def test_all_kinds_come_in_the_order_of_their_keys() -> None:
    tree, _ = new_tree()
    delta = Delta()
    delta.inode, delta.symlink = b"inode", b"target"
    delta.xattrs = {b"user.b": b"2", b"user.a": None}
    delta.entries = {b"z": 17 << 4 | 8, b"a": None}
    delta.links = {link_suffix(9, b"n"): b"", link_suffix(2, b"n"): None}
    delta.extents = ExtentMap()
    delta.extents.set(0, 9, CHUNK, digest_of(1), 0)
    keys = [record_key for record_key, _ in seal.tree_changes(tree, b"", INO, delta)]
    assert [split(each)[1] for each in keys] == [INODE, XATTR, XATTR, ENTRY, ENTRY, EXTENT, SYMLINK, LINK, LINK]
    assert keys == sorted(keys)


def test_what_is_removed_goes_whole() -> None:
    tree, _ = new_tree()
    records = {key(INO, ENTRY, b"%03d" % number): b"12345" for number in range(300)}
    root = build(tree, {**OTHERS, key(INO, INODE): b"inode", **records})
    delta = Delta()
    delta.fresh = True
    assert finish(tree.edit(root, list(seal.tree_changes(tree, root, INO, delta)))) == build(tree, OTHERS)


def _large(count: int, every: int) -> ExtentMap:
    made = ExtentMap()
    for number in range(0, count, every):
        made.set(number * 4096, (number + 1) * 4096, CHUNK, digest_of(number % 60_000), 0)
    return made


def test_a_file_of_very_many_extents_changes_in_small_steps() -> None:
    """Each group of what overlaps is folded by itself: with one piece in ten of a file replaced, only those change."""
    tree, store = new_tree(cache_bytes=0)
    root = build(tree, entries_of(_large(20_000, 1)))
    above = _large(20_000, 10)
    delta = Delta()
    delta.extents = above
    layer = Layer(2, Layer(1, None, root))
    layer.deltas[INO] = delta
    layer.freeze()
    assert len(list(seal.tree_changes(tree, root, INO, delta))) == len(above)
    longest, loads = 0, store.gets
    for _ in (steps := seal.seal(tree, layer)):
        longest, loads = max(longest, store.gets - loads), store.gets
    assert steps.gi_frame is None
    assert longest < 50, "nodes read in one step"


def test_a_sealed_layer_keeps_no_room_for_what_it_held() -> None:
    """A set that is empty again is as large as it ever was, and thousands of states are kept."""
    tree, _ = new_tree()
    root = build(tree, OTHERS)
    layer = Layer(2, Layer(1, None, root))
    for ino in range(INO, INO + 1000):
        layer.write(ino, b"inode", 0, 10, ino)
    layer.freeze()
    for ino in range(INO, INO + 1000):
        layer.replace(ino, [(0, 10, CHUNK, digest_of(ino), 0)])
    layer.seal(finish(seal.seal(tree, layer)))
    room = sum(sys.getsizeof(getattr(layer, name)) for name in Layer.__slots__)
    assert room < 4096
