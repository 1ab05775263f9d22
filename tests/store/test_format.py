"""docs/format.md tells the truth: its worked bytes are what the code writes and reads.

A failure after a change of the code means that the stored format has changed: that needs a new format
number and a way to read the old one, not just another example.
"""

import re
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

from heliosfs.base.digests import digest
from heliosfs.store import codec, index, journal, packs, spare
from heliosfs.store.database import Family
from heliosfs.store.packs import Location
from heliosfs.store.store import FORMAT
from tests.store.examples import EXAMPLES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")

BLOCK = re.compile(r"<!-- bytes: (?P<name>.+?) -->\n```text\n(?P<lines>.*?)```", re.DOTALL)

WORKED = {
    found["name"]: bytes.fromhex("".join(line[:48] for line in found["lines"].splitlines()))
    for found in BLOCK.finditer(DOCUMENT)
}


def test_the_document_works_every_example() -> None:
    assert WORKED.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_code_writes_the_bytes_of_the_document(name: str) -> None:
    assert EXAMPLES[name]() == WORKED[name]


def test_the_code_reads_the_journal_record_of_the_document() -> None:
    content = WORKED["journal record"]
    record = journal.parse(content[:20], memoryview(content)[20:], 1 << 32 | 36)
    assert record == journal.Record(7, 1 << 32 | 36, b"header", 4)
    assert journal.parse(content[:20], memoryview(content)[20:], 2 << 32 | 36) is None


def test_the_code_reads_the_objects_of_the_document() -> None:
    for name, data, kind in (("raw object", b"hello", 1), ("compressed object", b"a" * 1000, 2)):
        content = WORKED[name]
        location = Location(1, 0, len(content) - packs.HEADER_BYTES, len(data), kind, kind - 1)
        assert packs.is_record(content, location, digest(data))
        assert codec.decode(location.codec, content[packs.HEADER_BYTES :], len(data)) == data


def test_the_code_reads_the_spare_of_the_document() -> None:
    [(sequence, payload)] = spare.frames(WORKED["spare"])
    assert sequence == 9
    assert list(spare.decode(payload)) == [(1, Family.REFS, b"ref", b"value"), (2, Family.RECORDS, b"a", b"c")]


def test_the_checks_are_made_as_the_document_says() -> None:
    record = WORKED["journal record"]
    position = (1 << 32 | 36).to_bytes(8, "little")
    data_check = xxh3_64_intdigest(b"data").to_bytes(8, "little")
    assert xxh3_64_intdigest(position + record[:12] + data_check + b"header").to_bytes(8, "little") == record[12:20]
    stored = WORKED["raw object"]
    body_check = xxh3_64_intdigest(b"hello").to_bytes(8, "little")
    assert xxh3_64_intdigest(stored[:48] + body_check).to_bytes(8, "little") == stored[48:56]


def test_the_code_reads_the_index_of_the_document() -> None:
    assert index.decode_entry(WORKED["index entry"]) == (Location(1, 56, 5, 5, 1, 0), True)
    assert index.pack_of(WORKED["pack key"]) == 258
    assert index.decode_length(WORKED["pack length"]) == 4096
    assert index.decode_statistics(WORKED["statistics"]) == index.Statistics(1, 2, 3, 4, 5)


def test_the_document_names_every_family_and_the_format() -> None:
    for family in Family:
        assert f"| `{family.name.lower()}` |" in DOCUMENT
    assert f"This page describes format {FORMAT}." in DOCUMENT
