"""docs/format-trees.md tells the truth: its worked bytes are what the code writes and reads.

A failure after a change of the code means that the stored format has changed: see `tests/store/test_format.py`.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from heliosfs.base import records
from heliosfs.base.keys import ENTRY, EXTENT, INODE, key
from heliosfs.layers import replay
from heliosfs.layers.delta import FRESH, MADE, Change
from heliosfs.merkle import node, splitter
from heliosfs.volume import refs
from heliosfs.volume.operations import FIRST_HASH, Operation, chain
from heliosfs.volume.operations import encode as encode_operation

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format-trees.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- bytes: (?P<name>.+?) -->\n```text\n(?P<lines>.*?)```", re.DOTALL)
WORKED = {
    found["name"]: bytes.fromhex("".join(line[:48] for line in found["lines"].splitlines()))
    for found in BLOCK.finditer(DOCUMENT)
}

FILE = (0o100644, 1000, 1000, 1, 5, 5, 1, 2, 3, 0)
DIGEST = bytes(range(32))
CHANGES: list[Change] = [
    (258, FRESH, b"", MADE),
    (258, INODE, b"", b"i"),
    (258, EXTENT, 0, (5, records.INLINE, b"hello", 0)),
]
OPERATION = Operation(1, 5, "snapshot.create", "x", 1000, 7, b"mkdir", 1, [(b"r", None, b"v")], FIRST_HASH)

EXAMPLES: dict[str, Callable[[], bytes]] = {
    "inode key": lambda: key(258, INODE),
    "entry key": lambda: key(1, ENTRY, b"name"),
    "extent key": lambda: key(258, EXTENT, (4096).to_bytes(8, "big")),
    "inode": lambda: records.encode_inode(FILE),
    "entry": lambda: records.encode_entry(records.entry(258, 0o100644)),
    "chunk extent": lambda: records.encode_extent(4096, 4196, records.CHUNK, DIGEST, 10),
    "inline extent": lambda: records.encode_extent(0, 5, records.INLINE, b"hello", 0),
    "node": lambda: node.encode(node.Node(0, (b"a", b"b"), (b"1", b"2"))),
    "batch": lambda: replay.encode((9, CHANGES)),
    "write": lambda: replay.encode((9, 258, 4096, b"i")),
    "branch key": lambda: refs.branch_key(1),
    "branch": lambda: refs.encode(refs.BranchRecord(b"main", 0, 9, 0, 0, 5, 1000)),
    "snapshot key": lambda: refs.snapshot_key(1, b"x"),
    "snapshot": lambda: refs.encode(refs.SnapshotRecord(9, 5, 1000)),
    "refs": lambda: refs.encode(refs.RefsRecord([(10, 9)], [9], [(b"r", b"v")], None)),
    "operation": lambda: encode_operation(chain(OPERATION)[0]),
}


def test_the_document_works_every_example() -> None:
    assert WORKED.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_code_writes_the_bytes_of_the_document(name: str) -> None:
    assert EXAMPLES[name]() == WORKED[name]


def test_an_operation_is_stored_as_it_was_chained() -> None:
    assert chain(OPERATION)[1] == WORKED["operation"]


def test_the_code_reads_the_bytes_of_the_document() -> None:
    assert records.decode_inode(WORKED["inode"]) == FILE
    assert records.decode_extent(4096, WORKED["chunk extent"]) == (4096, 4196, records.CHUNK, DIGEST, 10)
    assert node.decode(WORKED["node"], DIGEST).keys == (b"a", b"b")
    layer, changes = replay.decode_batch(WORKED["batch"])
    assert layer == 9 and changes[1] == (258, INODE, b"", b"i")
    assert refs.decode_branch(WORKED["branch"]).name == b"main"
    assert refs.decode_snapshot(WORKED["snapshot"]).state == 9
    assert refs.decode_refs(WORKED["refs"]).layers == [(10, 9)]


def test_the_document_names_the_numbers_that_cut_nodes() -> None:
    for number in (splitter.NODE_BYTES_MIN, splitter.NODE_BYTES_MAX, splitter.SPREAD_BYTES, splitter.ENTRY_BYTES):
        assert f" {number}" in DOCUMENT
