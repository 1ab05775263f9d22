"""The worked examples of docs/format.md, made by the code that writes stores."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from heliosfs.base.digests import digest
from heliosfs.store import codec, index, spare
from heliosfs.store.database import RECORDS, REFS, SYNCED_NAME, Database
from heliosfs.store.journal import link_record
from heliosfs.store.objects import CHUNK, NODE
from heliosfs.store.packs import Location, Packs
from heliosfs.store.segments import Mark
from tests.store.support import replayed


def link() -> bytes:
    """Segment 2, after a segment 1 of 1000 bytes."""
    return link_record(2, Mark(1, 1000))


def journal_record() -> bytes:
    """The first record of a new journal, behind the link."""
    with tempfile.TemporaryDirectory() as directory:
        journal, _ = replayed(Path(directory))
        journal.append(7, b"header", b"data")
        journal.close()
        return (Path(directory) / "0000000001").read_bytes()[36:]


LZ4_BODY = bytes.fromhex("1f610100ffffffd2506161616161")
"""1000 times "a". Another release of LZ4 may find another block for it, and this one must stay readable."""


def pack_record(kind: int, used: int, data: bytes, body: bytes) -> bytes:
    """An object in a pack."""
    with tempfile.TemporaryDirectory() as directory:
        packs = Packs(Path(directory))
        packs.recover({})
        packs.append(kind, used, len(data), digest(data), body)
        packs.close()
        return (Path(directory) / "0000000001").read_bytes()


def synced() -> bytes:
    """The note of a database after its ninth change."""
    with tempfile.TemporaryDirectory() as directory:
        database = Database(Path(directory) / "db")
        database._note_synced(9)
        database.close()
        return (Path(directory) / "db" / SYNCED_NAME).read_bytes()


def spare_frame() -> bytes:
    """What a flush would append that sets a ref and removes some records, as the ninth change."""
    with tempfile.TemporaryDirectory() as directory:
        database = Database(Path(directory) / "db")
        batch = database.batch()
        batch.put(REFS, b"ref", b"value")
        batch.delete_between(RECORDS, b"a", b"c")
        content = spare.frame(0, 9, b"".join(batch.changes))
        database.close()
        return content


EXAMPLES: dict[str, Callable[[], bytes]] = {
    "link": link,
    "journal record": journal_record,
    "raw object": lambda: pack_record(CHUNK, codec.RAW, b"hello", b"hello"),
    "compressed object": lambda: pack_record(NODE, codec.LZ4, b"a" * 1000, LZ4_BODY),
    "index entry": lambda: index.encode_entry(Location(1, 56, 5, 5, 1, 0), suspect=True),
    "pack key": lambda: index.pack_key(258),
    "pack length": lambda: index.encode_length(4096),
    "statistics": lambda: index.Statistics(1, 2, 3, 4, 5, 6, 7).encode(),
    "synced": synced,
    "spare": spare_frame,
}
"""By the name that the document gives each."""
