"""What is read of a large tree to answer a small question."""

from heliosfs.base.keys import ENTRY, EXTENT, INODE, OFFSET_BYTES, key
from heliosfs.base.records import CHUNK, encode_entry, encode_extent
from heliosfs.layers import stack
from heliosfs.layers.layer import Layer
from tests.merkle.support import build, new_tree

INO = 16
PAGE = 4096
MANY = 20_000
FEW_NODES = 50


def test_the_extent_before_an_offset_is_found_without_a_look_at_others() -> None:
    tree, store = new_tree(cache_bytes=0)
    records = {
        key(INO, EXTENT, (number * PAGE).to_bytes(OFFSET_BYTES, "big")): encode_extent(
            number * PAGE, (number + 1) * PAGE, CHUNK, bytes(32), 0
        )
        for number in range(MANY)
    }
    root = build(tree, {key(INO - 1, INODE): b"another", **records})
    store.gets = 0
    for offset in (0, 1, PAGE - 1, PAGE, 10_000 * PAGE + 5):
        found = list(stack.tree_extents(tree, root, INO, offset, offset + 10))
        assert [extent[0] // PAGE for extent in found] == list(range(offset // PAGE, (offset + 9) // PAGE + 1))
    assert store.gets < FEW_NODES


def test_a_directory_with_very_many_names_is_seen_not_to_be_empty_at_once() -> None:
    tree, store = new_tree(cache_bytes=0)
    names = [b"%05d" % number for number in range(MANY)]
    root = build(tree, {key(INO, ENTRY, name): encode_entry(17 << 4 | 8) for name in names})
    top = Layer(2, Layer(1, None, root))
    top.apply([(INO, ENTRY, names[0], None)])
    store.gets = 0
    assert stack.has_entries(tree, top, INO)
    assert store.gets < FEW_NODES
    top.apply([(INO, ENTRY, name, None) for name in names])
    assert not stack.has_entries(tree, top, INO)
