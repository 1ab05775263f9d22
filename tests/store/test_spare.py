"""The spare says what the database says, flush by flush, or it is not there."""

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliosfs.store import spare as module
from heliosfs.store.database import (
    CHANGE,
    INDEX,
    OPERATIONS,
    PUT,
    RECORDS,
    REFS,
    REMOVE,
    SETTINGS,
    Batch,
    Database,
    Family,
)
from heliosfs.store.spare import Spare, decode, frames

Pairs = dict[tuple[Family, bytes], bytes]


class Written:
    """A database with its spare, written to as a store does it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.open()

    def open(self) -> None:
        self.database = Database(self.place / "db")
        self.spare = Spare(self.place / "spare", self.database)

    def reopen(self) -> None:
        self.database.close()
        self.open()

    def write(self, batch: Batch, tight: bool = False) -> None:
        before, changes = self.database.sequence(), batch.changes
        self.database.write(batch)
        self.database.sync()
        self.spare.follow(before, changes, tight=tight)

    def put(self, family: Family, key: bytes, value: bytes = b"") -> None:
        batch = self.database.batch()
        batch.put(family, key, value)
        self.write(batch)

    def pairs(self) -> Pairs:
        return {(family, key): value for family in Family if family != INDEX
                for key, value in self.database.scan(family)}  # fmt: skip

    def agrees(self) -> bool:
        return spared(self.spare.path.read_bytes()) == self.pairs()


def spared(content: bytes) -> Pairs:
    """What a spare says."""
    pairs: Pairs = {}
    for _, payload in frames(content):
        for kind, family, key, value in decode(payload):
            if kind == PUT:
                pairs[family, key] = value
            elif kind == REMOVE:
                pairs.pop((family, key), None)
            else:
                pairs = {pair: kept for pair, kept in pairs.items() if pair[0] != family or not key <= pair[1] < value}
    return pairs


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    written = Written(tmp_path)
    yield written
    written.database.close()


@pytest.mark.parametrize("seed", range(4))
def test_it_follows_every_batch(written: Written, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANEW_BYTES_MIN", 2000)
    monkeypatch.setattr(module, "FRAME_BYTES", 300)
    chance = random.Random(seed)
    anew = 0
    for _ in range(80):
        batch = written.database.batch()
        for _ in range(chance.randrange(8)):
            family, key = chance.choice(list(Family)), b"%d" % chance.randrange(100)
            kind = chance.random()
            if kind < 0.6:
                batch.put(family, key, chance.randbytes(chance.choice([0, 5, 100])))
            elif kind < 0.9:
                batch.delete(family, key)
            else:
                batch.delete_prefix(family, key[:1])
        size = written.spare._size
        written.write(batch)
        anew += written.spare._size < size
        assert written.agrees()
        if chance.random() < 0.2:
            written.reopen()
    assert anew > 2


def test_what_an_earlier_process_left_goes_on(written: Written) -> None:
    written.put(REFS, b"a", b"1")
    first = written.spare.path.read_bytes()
    written.reopen()
    written.put(RECORDS, b"b", b"2")
    assert written.spare.path.read_bytes().startswith(first) and written.agrees()


@pytest.mark.parametrize("how", ["behind", "ahead", "torn", "flipped", "longer"])
def test_one_that_is_not_that_of_the_database_is_made_anew(written: Written, how: str) -> None:
    written.put(REFS, b"a", b"1")
    older = written.spare.path.read_bytes()
    written.put(REFS, b"b", b"2")
    content = bytearray(written.spare.path.read_bytes())
    if how == "behind":
        content = bytearray(older)
    elif how == "ahead":
        never = CHANGE.pack(PUT, REFS, 5, 0) + b"never"
        content += module.frame(len(content), written.database.sequence() + 1, never)
    elif how == "torn":
        del content[-1:]
    elif how == "flipped":
        content[40] ^= 1
    else:
        content += b"more"
    written.spare.path.write_bytes(content)
    written.reopen()
    written.put(SETTINGS, b"c", b"3")
    assert written.agrees() and b"never" not in written.spare.path.read_bytes()


def test_it_notices_changes_that_went_past_it(written: Written) -> None:
    written.put(REFS, b"a", b"1")
    batch = written.database.batch()
    batch.put(OPERATIONS, b"b", b"2")
    written.database.write(batch)
    written.put(SETTINGS, b"c", b"3")
    assert written.agrees()


def test_of_a_damaged_one_the_part_before_counts(written: Written) -> None:
    for number in range(4):
        written.put(REFS, b"%d" % number)
    content = written.spare.path.read_bytes()
    whole = list(frames(content))
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        for changed in (bytes(damaged), content[:at]):
            found = list(frames(changed))
            assert found == whole[: len(found)] and len(found) < len(whole)


@pytest.mark.parametrize("append", [False, True])
def test_a_disk_without_room_has_none(written: Written, append: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if append:
        written.put(REFS, b"a", b"1")

    def full(descriptor: int, data: object, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_all", full)
        written.put(REFS, b"b", b"2")
        assert sorted(os.listdir(written.place)) == ["db"]
    written.put(REFS, b"c", b"3")
    assert written.agrees()
    batch = written.database.batch()
    written.write(batch, tight=True)
    assert sorted(os.listdir(written.place)) == ["db"]
