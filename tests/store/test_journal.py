"""The journal: what replay finds is a prefix of what was appended, whatever happened to the files."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosfs.base.errors import Corruption
from heliosfs.store import segments
from heliosfs.store.journal import AHEAD_BYTES, CACHE_BYTES, OFFSET_MASK, SEGMENT_BYTES, Journal, Record
from tests.store.support import flip, full_disk, replayed

SMALL = [(1, b"head", b""), (2, b"", b"data"), (3, b"both", b"sides"), (255, b"", b"")]
"""Records of every shape: header only, data only, both, neither."""


def fill(directory: Path, records: list[tuple[int, bytes, bytes]], segment_bytes: int = 1 << 20) -> list[Record]:
    """A closed journal with these records; what replay is to find."""
    directory.mkdir(exist_ok=True)
    journal, found = replayed(directory, segment_bytes=segment_bytes)
    assert found == []
    for kind, header, data in records:
        position = journal.append(kind, header, data)
        found.append(Record(kind, position, header, len(data)))
    journal.close()
    return found


def segment(directory: Path, number: int = 1) -> Path:
    return directory / f"{number:010d}"


def test_a_new_journal_is_empty_and_can_be_appended_to(tmp_path: Path) -> None:
    journal, found = replayed(tmp_path)
    assert found == [] and journal.segments() == [] and journal.size() == 0
    position = journal.append(7, b"header", b"data")
    assert position >> 32 == 1
    assert journal.segments() == [1]
    assert bytes(journal.read(position)) == b"data"
    journal.close()


def test_what_was_appended_is_replayed_in_order_with_its_data(tmp_path: Path) -> None:
    expected = fill(tmp_path, SMALL)
    journal, found = replayed(tmp_path)
    assert found == expected
    assert [bytes(journal.read(record.position)) for record in found] == [data for _, _, data in SMALL]
    assert journal.lost == 0
    journal.close()


def test_appending_goes_on_where_the_last_process_stopped(tmp_path: Path) -> None:
    first = fill(tmp_path, SMALL)
    journal, found = replayed(tmp_path)
    assert journal.head == found[-1].position + 20
    position = journal.append(9, b"later", b"more")
    journal.close()
    journal, found = replayed(tmp_path)
    assert found == [*first, Record(9, position, b"later", 4)]
    journal.close()


def test_replay_from_a_position_skips_what_is_before_it(tmp_path: Path) -> None:
    expected = fill(tmp_path, SMALL)
    for index, record in enumerate(expected):
        copy = tmp_path / f"copy{index}"
        copy.mkdir()
        shutil.copy(segment(tmp_path), segment(copy))
        journal, found = replayed(copy, record.position)
        assert found == expected[index:]
        journal.close()


def test_replay_from_the_head_finds_nothing_and_keeps_everything(tmp_path: Path) -> None:
    expected = fill(tmp_path, SMALL)
    journal, _ = replayed(tmp_path)
    head = journal.head
    journal.close()
    journal, found = replayed(tmp_path, head)
    assert found == [] and journal.head == head
    assert bytes(journal.read(expected[1].position)) == b"data"
    journal.close()


def test_appending_before_the_replay_is_our_own_mistake(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(AssertionError):
        journal.append(1, b"")
    replay = journal.replay()
    with pytest.raises(AssertionError):
        journal.append(1, b"")
    assert list(replay) == []
    journal.append(1, b"")
    journal.close()


def test_a_torn_tail_at_every_byte_leaves_the_records_before_it(tmp_path: Path) -> None:
    expected = fill(tmp_path / "whole", SMALL)
    content = segment(tmp_path / "whole").read_bytes()
    ends = [record.position & OFFSET_MASK for record in expected[1:]] + [len(content)]
    torn = tmp_path / "torn"
    torn.mkdir()
    for length in range(len(content) + 1):
        segment(torn).write_bytes(content[:length])
        journal, found = replayed(torn)
        count = sum(end <= length for end in ends)
        assert found == expected[:count], length
        position = journal.append(4, b"after", b"wards")
        journal.close()
        journal, found = replayed(torn)
        assert found == [*expected[:count], Record(4, position, b"after", 5)]
        assert journal.lost == 0
        journal.close()


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"garbage "])
def test_a_garbled_tail_at_every_byte_leaves_the_records_before_it(tmp_path: Path, filler: bytes) -> None:
    expected = fill(tmp_path / "whole", SMALL)
    content = segment(tmp_path / "whole").read_bytes()
    ends = [record.position & OFFSET_MASK for record in expected[1:]] + [len(content)]
    garbled = tmp_path / "garbled"
    garbled.mkdir()
    for length in range(len(content)):
        tail = (filler * len(content))[: len(content) - length]
        if content[length:] == tail:
            continue
        segment(garbled).write_bytes(content[:length] + tail)
        journal, found = replayed(garbled)
        assert found == expected[: len(found)]
        assert len(found) >= sum(end <= length for end in ends)
        assert [bytes(journal.read(one.position)) for one in found] == [data for _, _, data in SMALL[: len(found)]]
        journal.close()


def test_any_flipped_bit_ends_history_there_and_is_never_read(tmp_path: Path) -> None:
    expected = fill(tmp_path / "whole", SMALL)
    content = segment(tmp_path / "whole").read_bytes()
    starts = [record.position & OFFSET_MASK for record in expected] + [len(content)]
    flipped = tmp_path / "flipped"
    flipped.mkdir()
    for offset in range(len(content)):
        for bit in range(8):
            segment(flipped).write_bytes(content)
            flip(segment(flipped), offset, bit)
            hit = sum(start <= offset for start in starts) - 1
            reader = Journal(flipped, read_only=True)
            assert list(reader.replay()) == expected[: max(hit, 0)], (offset, bit)
            if hit >= 0:
                with pytest.raises(Corruption):
                    reader.read(expected[hit].position)
            for index, record in enumerate(expected):
                if index != hit:
                    assert bytes(reader.read(record.position)) == SMALL[index][2]
            reader.close()


def test_segments_roll_and_no_record_straddles_them(tmp_path: Path) -> None:
    records = [(1, bytes((n,)) * 10, bytes((n,)) * 50) for n in range(40)]
    expected = fill(tmp_path, records, segment_bytes=256)
    journal, found = replayed(tmp_path, segment_bytes=256)
    assert found == expected
    assert len(journal.segments()) > 10
    assert all(os.path.getsize(segment(tmp_path, number)) <= 256 for number in journal.segments())
    assert journal.size() == sum(os.path.getsize(segment(tmp_path, number)) for number in journal.segments())
    assert [bytes(journal.read(one.position)) for one in found] == [data for _, _, data in records]
    journal.close()


def test_a_record_larger_than_a_segment_has_one_to_itself(tmp_path: Path) -> None:
    journal, _ = replayed(tmp_path, segment_bytes=256)
    positions = [journal.append(1, b"", data) for data in (b"a", b"b" * 1000, b"c" * 1000, b"d")]
    assert [position >> 32 for position in positions] == [1, 2, 3, 4]
    journal.close()
    journal, found = replayed(tmp_path, segment_bytes=256)
    assert [record.data_length for record in found] == [1, 1000, 1000, 1]
    assert bytes(journal.read(positions[1])) == b"b" * 1000
    journal.close()


def test_a_large_record_is_read_whole_in_a_replay(tmp_path: Path) -> None:
    big = os.urandom(3 << 20)
    expected = fill(tmp_path, [(1, b"small", b""), (2, b"big", big), (3, b"small", b"x")], SEGMENT_BYTES)
    journal, found = replayed(tmp_path)
    assert found == expected
    assert journal.read(found[1].position) == big
    journal.close()


def test_a_missing_segment_ends_history_and_later_ones_go(tmp_path: Path) -> None:
    records = [(1, bytes((n,)) * 100, b"") for n in range(10)]
    expected = fill(tmp_path, records, segment_bytes=256)
    segment(tmp_path, 3).unlink()
    journal, found = replayed(tmp_path, segment_bytes=256)
    assert found == [record for record in expected if record.position >> 32 < 3]
    assert journal.segments() == [1, 2]
    assert journal.lost > 0
    journal.close()


def test_what_is_cut_is_kept_beside(tmp_path: Path) -> None:
    expected = fill(tmp_path, [(1, bytes((n,)) * 100, b"") for n in range(4)], segment_bytes=300)
    flip(segment(tmp_path), (expected[1].position & OFFSET_MASK) + 30)
    content = {number: segment(tmp_path, number).read_bytes() for number in (1, 2)}
    journal, found = replayed(tmp_path, segment_bytes=300)
    assert found == expected[:1] and journal.lost == 120 + len(content[2])
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("lost-*")}
    assert kept == {"lost-0000000001-0000000156": content[1][156:], "lost-0000000002-0000000000": content[2]}
    journal.append(1, b"goes on")
    journal.close()
    journal, found = replayed(tmp_path)
    assert len(found) == 2 and journal.lost == 0
    journal.close()


def test_a_full_disk_does_not_keep_a_journal_from_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fill(tmp_path, SMALL)
    os.truncate(segment(tmp_path), os.path.getsize(segment(tmp_path)) - 1)

    def fail(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fail)
    journal, found = replayed(tmp_path)
    assert found == expected[:-1] and os.listdir(tmp_path) == ["0000000001"]
    journal.close()


def test_a_segment_that_ends_too_early_between_two_records_is_a_hole(tmp_path: Path) -> None:
    """The case that per-record checks cannot see: the tail of a segment is lost, the next one is there."""
    records = [(1, bytes((n,)) * 20, b"") for n in range(30)]
    expected = fill(tmp_path, records, segment_bytes=256)
    second = [record for record in expected if record.position >> 32 == 2]
    os.truncate(segment(tmp_path, 2), second[-1].position & OFFSET_MASK)
    journal, found = replayed(tmp_path, segment_bytes=256)
    assert found == [record for record in expected if record.position < second[-1].position]
    assert journal.segments() == [1, 2]
    journal.close()


@pytest.mark.parametrize("size", [0, 1, 20, 35])
def test_a_torn_new_segment_goes_and_the_one_before_is_continued(tmp_path: Path, size: int) -> None:
    expected = fill(tmp_path, SMALL)
    segment(tmp_path, 2).write_bytes(b"\0" * size)
    journal, found = replayed(tmp_path)
    assert found == expected and journal.segments() == [1]
    assert journal.append(1, b"next") >> 32 == 1
    journal.close()


def test_a_segment_under_another_number_is_not_taken_for_history(tmp_path: Path) -> None:
    expected = fill(tmp_path, [(1, bytes((n,)) * 100, b"") for n in range(3)], segment_bytes=256)
    shutil.copy(segment(tmp_path, 1), segment(tmp_path, 4))
    journal, found = replayed(tmp_path, segment_bytes=256)
    assert found == expected and journal.segments() == [1, 2, 3]
    journal.close()


def test_a_journal_that_ends_before_the_start_is_refused_and_left_alone(tmp_path: Path) -> None:
    fill(tmp_path, SMALL)
    before = segment(tmp_path).read_bytes()
    for start in ((1 << 32) + len(before) + 1, 2 << 32 | 36):
        journal = Journal(tmp_path)
        with pytest.raises(Corruption):
            list(journal.replay(start))
        journal.close()
    assert segment(tmp_path).read_bytes() == before


def test_reading_alone_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path, SMALL)
    os.truncate(segment(tmp_path), os.path.getsize(segment(tmp_path)) - 1)
    segment(tmp_path, 2).write_bytes(b"torn")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    journal = Journal(tmp_path, read_only=True)
    assert len(list(journal.replay())) == 3
    assert journal.lost == 19 + 4
    with pytest.raises(AssertionError):
        journal.append(1, b"")
    journal.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("position", [0, 1, 1 << 32, (1 << 32) + 37, (1 << 32) + 10_000, 5 << 32, (1 << 63) + 3])
def test_a_position_where_no_record_lies_is_corruption(tmp_path: Path, position: int) -> None:
    fill(tmp_path, SMALL)
    journal, _ = replayed(tmp_path)
    if position == 1 << 32:
        assert bytes(journal.read(position)) == b""  # the link: a whole record without data
    else:
        with pytest.raises(Corruption) as caught:
            journal.read(position)
        assert caught.value.what == "journal record"
    journal.close()


def test_what_was_just_appended_is_served_from_memory(tmp_path: Path) -> None:
    journal, _ = replayed(tmp_path)
    position = journal.append(1, b"header", memoryview(bytearray(b"data")))
    segment(tmp_path).write_bytes(b"")
    assert bytes(journal.read(position)) == b"data"
    journal.close()


def test_the_caller_may_reuse_its_buffer(tmp_path: Path) -> None:
    journal, _ = replayed(tmp_path)
    buffer = bytearray(b"data")
    position = journal.append(1, b"", memoryview(buffer))
    buffer[:] = b"new!"
    assert bytes(journal.read(position)) == b"data"
    journal.close()


def test_the_memory_is_bounded(tmp_path: Path) -> None:
    journal, _ = replayed(tmp_path, segment_bytes=SEGMENT_BYTES)
    data = bytes(1 << 20)
    positions = [journal.append(1, b"", data) for _ in range(40)]
    assert journal._cache.held <= CACHE_BYTES
    assert all(journal.read(position) == data for position in positions)
    assert journal._cache.held <= CACHE_BYTES
    journal.close()


def test_how_much_lies_behind_a_position_is_counted_across_segments(tmp_path: Path) -> None:
    journal, _ = replayed(tmp_path, segment_bytes=256)
    assert journal.size_since(0) == 0
    positions = [journal.append(1, bytes(20), bytes(60)) for _ in range(10)]
    first, last = positions[0] >> 32, positions[-1] >> 32
    assert last > first + 2
    assert journal.size_since(0) == journal.size()
    assert journal.size_since(journal.head) == 0
    assert journal.size_since(positions[-1]) == journal.head - positions[-1] == 100
    inside = next(position for position in positions[1:] if position >> 32 == first)
    whole = journal.size_since(inside)
    assert whole == journal.size() - (inside & 0xFFFFFFFF)
    journal.drop(first)
    assert 0 < journal.size_since(inside) == journal.size() < whole
    journal.close()


def test_a_segment_can_be_left_before_it_is_full(tmp_path: Path) -> None:
    journal, _ = replayed(tmp_path, segment_bytes=1600)
    journal.leave_segment()
    assert journal.segments() == [], "there is nothing yet that could go"
    journal.append(1, b"", bytes(100))
    journal.leave_segment()
    assert journal.segments() == [1], "there is little in it"
    journal.append(1, b"", bytes(100))
    journal.leave_segment()
    journal.leave_segment()
    assert journal.segments() == [1, 2], "the last is empty still"
    start = journal.head
    second = journal.append(1, b"", b"data")
    journal.drop(1)
    assert start >> 32 == second >> 32 == 2
    journal.close()
    journal, found = replayed(tmp_path, start=start)
    assert [record.position for record in found] == [second]
    journal.close()


def test_without_room_for_a_segment_the_present_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, _ = replayed(tmp_path, segment_bytes=1600)
    journal.append(1, b"", bytes(300))
    with full_disk(monkeypatch, 10):
        journal.leave_segment()
    assert journal.append(1, b"", b"data") >> 32 == 1
    journal.close()


def test_dropping_segments_keeps_the_others_readable(tmp_path: Path) -> None:
    records = [(1, bytes((n,)) * 20, bytes((n,)) * 60) for n in range(10)]
    expected = fill(tmp_path, records, segment_bytes=256)
    journal, _ = replayed(tmp_path, segment_bytes=256)
    numbers = journal.segments()
    with pytest.raises(AssertionError):
        journal.drop(numbers[-1])
    journal.drop(numbers[1])
    assert journal.segments() == [numbers[0], *numbers[2:]]
    for record in expected:
        if record.position >> 32 == numbers[1]:
            with pytest.raises(Corruption):
                journal.read(record.position)
        else:
            assert bytes(journal.read(record.position)) == record.header[:1] * 60
    head = journal.head
    journal.sync()
    journal.close()
    journal, found = replayed(tmp_path, start=head, segment_bytes=256)
    assert found == [] and journal.segments() == [numbers[0], *numbers[2:]]
    journal.close()


@pytest.mark.parametrize("room", range(40))
def test_a_full_disk_at_every_byte_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    journal, _ = replayed(tmp_path)
    first = journal.append(1, b"first", b"data")
    head, size = journal.head, journal.size()
    with full_disk(monkeypatch, room), pytest.raises(OSError) as caught:
        journal.append(2, b"second", b"lost in the middle")
    assert caught.value.errno == errno.ENOSPC
    assert journal.head == head and journal.size() == size == os.path.getsize(segment(tmp_path))
    second = journal.append(3, b"3", b"goes on")
    assert second == head
    assert bytes(journal.read(second)) == b"goes on"
    journal.close()
    journal, found = replayed(tmp_path)
    assert found == [Record(1, first, b"first", 4), Record(3, second, b"3", 7)]
    journal.close()


@pytest.mark.parametrize("room", range(0, 36, 5))
def test_a_disk_too_full_for_a_new_segment_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    journal, _ = replayed(tmp_path, segment_bytes=256)
    first = journal.append(1, b"x" * 150)
    with full_disk(monkeypatch, room):
        with pytest.raises(OSError):
            journal.append(2, b"y" * 150)
        assert journal.segments() == [1]
    second = journal.append(3, b"fits")
    third = journal.append(4, b"z" * 150)
    assert (first >> 32, second >> 32, third >> 32) == (1, 1, 2)
    journal.close()
    journal, found = replayed(tmp_path, segment_bytes=256)
    assert [record.kind for record in found] == [1, 3, 4]
    journal.close()


def test_the_kernel_itself_says_that_there_is_no_room(tmp_path: Path) -> None:
    """A limit on the size of files is the one full disk that every machine has; it writes what still fits."""
    program = """
import resource, sys
from pathlib import Path
from heliosfs.store.journal import Journal
journal = Journal(Path(sys.argv[1]))
list(journal.replay())
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
refused = 0
for length in range(200, 0, -7):
    try:
        journal.append(1, b"x" * length)
    except OSError:
        refused += 1
    assert journal.size() <= 1000
print(refused)
journal.close()
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=True)
    refused = int(done.stdout)
    assert 0 < refused < 29
    journal, found = replayed(tmp_path)
    assert len(found) == 29 - refused and journal.lost == 0
    journal.close()


def test_bytes_that_could_not_be_cut_after_a_failure_do_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, _ = replayed(tmp_path, segment_bytes=256)
    journal.append(1, b"first")

    def fail(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", fail)
        with full_disk(monkeypatch, 100), pytest.raises(OSError):
            journal.append(2, b"lost" * 30)
        with pytest.raises(OSError):
            journal.append(3, b"x" * 200)  # a new segment must not follow the garbage
    journal.append(4, b"second")
    journal.append(5, b"x" * 200)
    journal.close()
    journal, found = replayed(tmp_path, segment_bytes=256)
    assert [record.kind for record in found] == [1, 4, 5]
    journal.close()


def test_sync_covers_full_segments_and_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def note(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    monkeypatch.setattr(os, "fdatasync", note)
    monkeypatch.setattr(os, "fsync", note)
    directory = tmp_path / "journal"
    directory.mkdir()
    journal, _ = replayed(directory, segment_bytes=256)
    for n in range(4):
        journal.append(1, bytes((n,)) * 50)
    journal.sync()
    assert synced == ["0000000001", "0000000002", "journal"]
    synced.clear()
    journal.sync()
    assert synced == []
    journal.append(1, b"")
    journal.sync()
    assert synced == ["0000000002"]
    journal.append(1, b"x" * 150)
    journal.sync()
    synced.clear()
    journal.drop(1)
    journal.sync()
    assert synced == ["0000000003", "journal"]
    journal.append(1, b"x" * 150)
    journal.close()
    synced.clear()
    journal, _ = replayed(directory, segment_bytes=256)
    journal.sync()  # what a killed process left in the page cache
    assert synced == ["0000000002", "0000000003", "0000000004", "journal"]
    journal.close()


def test_a_sync_that_failed_is_never_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, _ = replayed(tmp_path)
    journal.append(1, b"")

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError):
            journal.sync()
    with pytest.raises(OSError) as caught:
        journal.sync()
    assert caught.value.errno == errno.EIO and "earlier" in str(caught.value)
    journal.close()


OPERATIONS = st.lists(
    st.tuples(st.integers(1, 255), st.binary(max_size=60), st.binary(max_size=300)), min_size=1, max_size=25
)


@settings(max_examples=150)
@given(records=OPERATIONS, segment_bytes=st.integers(40, 600), data=st.data())
def test_any_damage_leaves_a_prefix(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[int, bytes, bytes]],
    segment_bytes: int,
    data: st.DataObject,
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    expected = fill(directory, records, segment_bytes)
    files = sorted(directory.iterdir())
    for _ in range(data.draw(st.integers(1, 3))):
        victim = data.draw(st.sampled_from(files))
        if not victim.exists():
            continue
        size = victim.stat().st_size
        match data.draw(st.sampled_from(["cut", "remove", "zero", "flip"])):
            case "cut":
                os.truncate(victim, data.draw(st.integers(0, size)))
            case "remove":
                victim.unlink()
            case "flip" if size:
                flip(victim, data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 7)))
            case "zero" if size:
                first = data.draw(st.integers(0, size - 1))
                content = bytearray(victim.read_bytes())
                last = data.draw(st.integers(first, size))
                content[first:last] = bytes(last - first)
                victim.write_bytes(content)
    journal, found = replayed(directory, segment_bytes=segment_bytes)
    first = expected.index(found[0]) if found else 0
    assert found == expected[first : first + len(found)]
    assert first == 0 or not files[0].exists()  # only when the oldest segments are missing altogether
    for record, (_, _, content_) in zip(found, records[first:], strict=False):
        assert bytes(journal.read(record.position)) == content_
    position = journal.append(1, b"again")
    journal.close()
    journal, again = replayed(directory, segment_bytes=segment_bytes)
    assert again == [*found, Record(1, position, b"again", 0)]
    journal.close()
    shutil.rmtree(directory)


# The room that is made ahead of the records


def killed(directory: Path, records: list[tuple[int, bytes, bytes]], **options: int) -> None:
    """As `fill`, but the process ends without closing anything."""
    journal = Journal(directory, **options)
    assert list(journal.replay()) == []
    for kind, header, data in records:
        journal.append(kind, header, data)
    journal._segments._room = 0  # nothing is cut at the end
    journal.close()


def test_a_killed_journal_is_longer_than_its_records_and_loses_nothing(tmp_path: Path) -> None:
    killed(tmp_path, SMALL)
    size = segment(tmp_path).stat().st_size
    journal, found = replayed(tmp_path)
    assert len(found) == len(SMALL) and journal.lost == 0
    assert journal.size() < size == segment(tmp_path).stat().st_size
    position = journal.append(1, b"next", b"data")
    assert bytes(journal.read(position)) == b"data"
    journal.close()
    journal, found = replayed(tmp_path)
    assert [record.header for record in found][-1] == b"next" and journal.lost == 0
    assert journal.size() == segment(tmp_path).stat().st_size
    assert os.listdir(tmp_path) == ["0000000001"]
    journal.close()


def test_a_killed_journal_of_many_segments(tmp_path: Path) -> None:
    records = [(1, bytes((n,)) * 20, b"") for n in range(30)]
    killed(tmp_path, records, segment_bytes=256)
    journal, found = replayed(tmp_path, segment_bytes=256)
    assert [record.header for record in found] == [header for _, header, _ in records] and journal.lost == 0
    journal.close()


def test_zeros_after_a_segment_that_was_gone_on_from_hide_nothing(tmp_path: Path) -> None:
    """As when the disk has the next segment and not yet the end of the one before."""
    expected = fill(tmp_path, [(1, bytes((n,)) * 20, b"") for n in range(30)], segment_bytes=256)
    os.truncate(segment(tmp_path, 2), 4096)
    journal, found = replayed(tmp_path, segment_bytes=256)
    assert found == expected and journal.lost == 0
    journal.close()


def test_of_a_torn_record_before_zeros_only_the_record_counts_as_lost(tmp_path: Path) -> None:
    expected = fill(tmp_path, SMALL)
    end = segment(tmp_path).stat().st_size
    last = expected[-1].position & OFFSET_MASK
    content = segment(tmp_path).read_bytes()[:-1]
    segment(tmp_path).write_bytes(content + bytes(10_000))
    journal, found = replayed(tmp_path)
    assert found == expected[:-1] and journal.lost == len(content[last:].rstrip(b"\0")) <= end - last
    (kept,) = tmp_path.glob("lost-*")
    assert kept.read_bytes() == content[last:].rstrip(b"\0")
    journal.close()


def test_reading_a_killed_journal_alone_changes_nothing(tmp_path: Path) -> None:
    killed(tmp_path, SMALL)
    before = segment(tmp_path).read_bytes()
    journal = Journal(tmp_path, read_only=True)
    assert len(list(journal.replay())) == len(SMALL) and journal.lost == 0
    journal.close()
    assert segment(tmp_path).read_bytes() == before


def test_where_a_file_cannot_be_made_longer_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int, size: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(os, "ftruncate", fail)
    fill(tmp_path, SMALL)
    journal, found = replayed(tmp_path)
    assert len(found) == len(SMALL) and journal.size() == segment(tmp_path).stat().st_size
    journal.close()


def test_where_syncs_come_often_what_is_made_ahead_is_written(tmp_path: Path) -> None:
    journal, _ = replayed(tmp_path, segment_bytes=SEGMENT_BYTES)
    records = []
    while journal._segments._lengthened == AHEAD_BYTES:
        records.append(journal.append(1, b"header", b"data" * 1000))
        journal.sync()
        assert len(records) < 2000
    assert segment(tmp_path).stat().st_size - journal.size() > 100 << 10
    assert len(segment(tmp_path).read_bytes().rstrip(b"\0")) <= journal.size()
    for _ in range(400):
        records.append(journal.append(1, b"header", b"more" * 1000))
    journal._segments._room = 0  # killed: nothing is cut at the end
    journal.close()
    journal, found = replayed(tmp_path, segment_bytes=SEGMENT_BYTES)
    assert [record.position for record in found] == records and journal.lost == 0
    assert bytes(journal.read(records[-1])) == b"more" * 1000
    journal.close()


def test_a_disk_without_space_for_zeros_is_made_longer_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_ZEROS", b"")
    monkeypatch.setattr(segments, "OFTEN_BYTES", 1 << 30)
    journal, _ = replayed(tmp_path, segment_bytes=SEGMENT_BYTES)
    positions = []
    for _ in range(600):
        positions.append(journal.append(1, b"header", b"data" * 1000))
        journal.sync()
    assert segment(tmp_path).stat().st_size > journal.size()
    assert journal._segments._lengthened == AHEAD_BYTES
    journal.close()
    journal, found = replayed(tmp_path, segment_bytes=SEGMENT_BYTES)
    assert [record.position for record in found] == positions
    journal.close()
