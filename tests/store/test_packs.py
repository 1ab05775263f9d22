"""Packs: every damaged bit of a record is noticed, and tails that the index does not know are gone."""

import os
from pathlib import Path

import pytest

from heliosfs.base.digests import digest
from heliosfs.base.errors import Corruption
from heliosfs.store.packs import HEADER_BYTES, Location, Packs
from tests.store.support import flip, full_disk

BODIES = [b"first body", b"", b"second" * 20]


def fill(directory: Path, pack_bytes: int = 1 << 20) -> tuple[Packs, list[tuple[bytes, Location]]]:
    packs = Packs(directory, pack_bytes=pack_bytes)
    packs.recover({})
    return packs, [(digest(body), packs.append(1, 0, len(body), digest(body), body)) for body in BODIES]


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    packs, written = fill(tmp_path)
    assert [packs.read(location, name) for name, location in written] == BODIES
    assert [location.offset for _, location in written] == [0, HEADER_BYTES + 10, 2 * HEADER_BYTES + 10]
    assert packs.total() == os.path.getsize(tmp_path / "0000000001")
    packs.close()


def test_any_flipped_bit_is_corruption_of_that_object_alone(tmp_path: Path) -> None:
    packs, written = fill(tmp_path)
    file = tmp_path / "0000000001"
    for offset in range(file.stat().st_size):
        for bit in range(8):
            flip(file, offset, bit)
            for (name, location), body in zip(written, BODIES, strict=True):
                if location.offset <= offset < location.end:
                    with pytest.raises(Corruption) as caught:
                        packs.read(location, name)
                    assert caught.value.digest == name and str(file) in caught.value.where
                else:
                    assert packs.read(location, name) == body
            flip(file, offset, bit)
    packs.close()


def test_a_location_that_says_something_else_is_corruption(tmp_path: Path) -> None:
    packs, written = fill(tmp_path)
    name, location = written[2]
    for wrong in (
        location._replace(pack=2),
        location._replace(offset=0),
        location._replace(offset=10_000),
        location._replace(stored_length=119),
        location._replace(stored_length=121),
        location._replace(raw_length=1),
        location._replace(kind=2),
        location._replace(codec=1),
    ):
        with pytest.raises(Corruption):
            packs.read(wrong, name)
    with pytest.raises(Corruption):
        packs.read(location, written[0][0])
    assert packs.read(location, name) == BODIES[2]
    packs.close()


def test_packs_roll(tmp_path: Path) -> None:
    packs, written = fill(tmp_path, pack_bytes=150)
    assert [location.pack for _, location in written] == [1, 1, 2]
    assert packs.numbers() == [1, 2] and packs.current == 2
    assert [packs.read(location, name) for name, location in written] == BODIES
    packs.close()


def test_recovery_cuts_what_the_index_does_not_know(tmp_path: Path) -> None:
    packs, written = fill(tmp_path, pack_bytes=150)
    packs.close()
    known = written[0][1].end
    packs = Packs(tmp_path)
    assert packs.recover({1: known}) == written[1][1].end - known + written[2][1].end
    assert packs.numbers() == [1] and packs.size(1) == known == os.path.getsize(tmp_path / "0000000001")
    again = packs.append(1, 0, len(BODIES[1]), written[1][0], BODIES[1])
    assert again == written[1][1]
    packs.close()


def test_recovery_of_garbage_beyond_the_known_length(tmp_path: Path) -> None:
    packs, written = fill(tmp_path)
    packs.close()
    with open(tmp_path / "0000000001", "ab") as file:
        file.write(os.urandom(1000))
    packs = Packs(tmp_path)
    assert packs.recover({1: written[-1][1].end}) == 1000
    assert [packs.read(location, name) for name, location in written] == BODIES
    packs.close()


@pytest.mark.parametrize("lost", ["tail", "file"])
def test_a_pack_that_lacks_bytes_is_never_written_again(tmp_path: Path, lost: str) -> None:
    packs, written = fill(tmp_path)
    packs.close()
    file = tmp_path / "0000000001"
    if lost == "tail":
        os.truncate(file, written[1][1].end)
    else:
        file.unlink()
    packs = Packs(tmp_path)
    packs.recover({1: written[2][1].end})
    assert not packs.holds(written[2][1])
    assert packs.holds(written[0][1]) == (lost == "tail")
    new = packs.append(1, 0, 3, digest(b"new"), b"new")
    assert new.pack == 2
    assert packs.read(new, digest(b"new")) == b"new"
    with pytest.raises(Corruption):
        packs.read(written[2][1], written[2][0])
    packs.close()


@pytest.mark.parametrize("room", range(0, 66, 5))
def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    packs, written = fill(tmp_path)
    size = packs.size(1)
    with full_disk(monkeypatch, room), pytest.raises(OSError):
        packs.append(1, 0, 10, digest(b"0123456789"), b"0123456789")
    assert packs.size(1) == size == os.path.getsize(tmp_path / "0000000001")
    again = packs.append(1, 0, 10, digest(b"0123456789"), b"0123456789")
    assert again.offset == size
    assert packs.read(again, digest(b"0123456789")) == b"0123456789"
    assert [packs.read(location, name) for name, location in written] == BODIES
    packs.close()


def test_many_packs_need_few_descriptors(tmp_path: Path) -> None:
    packs = Packs(tmp_path, pack_bytes=60)
    packs.recover({})
    written = [packs.append(1, 0, 2, digest(b"%02d" % n), b"%02d" % n) for n in range(99)]
    packs.sync()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        for n, location in enumerate(written):
            assert packs.read(location, digest(b"%02d" % n)) == b"%02d" % n
    assert len(os.listdir("/proc/self/fd")) - before <= 64
    packs.close()
