"""The database: atomic batches, stable scans, and no guessing when something is damaged."""

import errno
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosfs.base.errors import Corruption, HeliosError
from heliosfs.store import database as module
from heliosfs.store.database import INDEX, OPERATIONS, RECORDS, REFS, SETTINGS, Database, Family, after_prefix


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "db")
    yield database
    database.close()


def put(database: Database, family: Family, pairs: dict[bytes, bytes]) -> None:
    batch = database.batch()
    for key, value in pairs.items():
        batch.put(family, key, value)
    database.write(batch)


def test_families_do_not_mix(database: Database) -> None:
    for family in Family:
        put(database, family, {b"key": family.name.encode()})
    for family in Family:
        assert database.get(family, b"key") == family.name.encode()
        assert list(database.scan(family)) == [(b"key", family.name.encode())]
    assert database.get(INDEX, b"other") is None


def test_a_batch_is_seen_only_once_written_and_its_later_changes_win(database: Database) -> None:
    batch = database.batch()
    batch.put(RECORDS, b"a", b"1")
    batch.put(RECORDS, b"a", b"2")
    batch.put(RECORDS, b"b", b"1")
    batch.delete(RECORDS, b"b")
    assert len(batch) == 4 and batch.size() > 0
    assert database.get(RECORDS, b"a") is None
    database.write(batch)
    assert list(database.scan(RECORDS)) == [(b"a", b"2")]


def test_callbacks_run_after_the_write_and_not_when_it_fails(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes | None] = []
    batch = database.batch()
    batch.put(REFS, b"a", b"1")
    batch.when_written(lambda: seen.append(database.get(REFS, b"a")))
    assert seen == []
    database.write(batch)
    assert seen == [b"1"]
    batch = database.batch()
    batch.when_written(lambda: seen.append(b"never"))
    with monkeypatch.context() as patch:
        patch.setattr(module, "FREE_BYTES_MIN", 1 << 60)
        with pytest.raises(OSError) as caught:
            database.write(batch)
    assert caught.value.errno == errno.ENOSPC and seen == [b"1"]


def test_a_prefix_is_deleted_as_of_the_batch(database: Database) -> None:
    put(database, RECORDS, {b"a": b"", b"b": b"", b"b\xff\xff": b"", b"b\0": b"", b"c": b""})
    batch = database.batch()
    batch.put(RECORDS, b"b-before", b"")
    batch.delete_prefix(RECORDS, b"b")
    batch.put(RECORDS, b"b-after", b"")
    database.write(batch)
    assert [key for key, _ in database.scan(RECORDS)] == [b"a", b"b-after", b"c"]
    assert database.get(RECORDS, b"b\0") is None


def test_an_unbounded_prefix_is_our_own_mistake(database: Database) -> None:
    for prefix in (b"", b"\xff\xff"):
        with pytest.raises(AssertionError):
            database.batch().delete_prefix(RECORDS, prefix)


def test_a_scan_of_a_prefix_has_its_keys_in_order(database: Database) -> None:
    put(
        database,
        RECORDS,
        {key: key[::-1] for key in (b"\xff\xff", b"\xff", b"ab", b"a", b"b", b"a\xff", b"")},
    )
    assert [key for key, _ in database.scan(RECORDS, b"a")] == [b"a", b"ab", b"a\xff"]
    assert [key for key, _ in database.scan(RECORDS, b"\xff")] == [b"\xff", b"\xff\xff"]
    assert [key for key, _ in database.scan(RECORDS)] == sorted(
        [b"\xff\xff", b"\xff", b"ab", b"a", b"b", b"a\xff", b""]
    )
    assert list(database.scan(RECORDS, b"c")) == []


def test_a_scan_is_a_stable_view_from_the_call_on(database: Database) -> None:
    """The first trap: a Snapshot of rocksdict iterates live data, a generator begins at its first step."""
    before = {b"%03d" % n: b"old" for n in range(100)}
    put(database, RECORDS, before)
    scan = database.scan(RECORDS)
    put(database, RECORDS, {b"%03d" % n: b"new" for n in range(0, 200, 2)})
    batch = database.batch()
    batch.delete(RECORDS, b"001")
    database.write(batch)
    assert dict(scan) == before
    now = dict(database.scan(RECORDS))
    assert now[b"000"] == b"new" and b"001" not in now and len(now) == 149


def test_close_lets_go_of_scans_and_batches(tmp_path: Path) -> None:
    """The second trap: one iterator, handle or batch left over keeps the database locked."""
    database = Database(tmp_path / "db")
    put(database, INDEX, {b"a": b"1", b"b": b"2"})
    scans = [database.scan(family) for family in Family]
    assert next(scans[0]) == (b"a", b"1")
    batches = [database.batch() for _ in range(3)]
    batches[0].put(INDEX, b"c", b"3")
    database.close()
    again = Database(tmp_path / "db")
    assert list(again.scan(INDEX)) == [(b"a", b"1"), (b"b", b"2")]
    again.close()
    with pytest.raises(HeliosError, match="closed while"):
        next(scans[0])


def test_a_scan_that_was_read_to_its_end_stays_at_its_end(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    scan = database.scan(INDEX)
    assert list(scan) == []
    database.close()
    assert list(scan) == []


def test_a_second_process_or_opening_is_refused(database: Database) -> None:
    with pytest.raises(HeliosError, match="cannot be opened"):
        Database(database.path)


def test_what_was_written_survives_without_a_sync(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    put(database, OPERATIONS, {b"%d" % n: b"x" * 100 for n in range(1000)})
    database.close()
    database = Database(tmp_path / "db", read_only=True)
    assert sum(1 for _ in database.scan(OPERATIONS)) == 1000
    database.close()


def copy_of_a_running(database: Database, place: Path) -> Path:
    """The files as a power cut would leave them, all that was written having reached the disk."""
    shutil.copytree(database.path, place)
    return place


def test_a_log_that_lost_what_was_synced_is_refused(database: Database, tmp_path: Path) -> None:
    put(database, REFS, {b"a": b"1"})
    database.sync()
    put(database, REFS, {b"b": b"2" * 1000})
    database.sync()
    copy = copy_of_a_running(database, tmp_path / "copy")
    (log,) = copy.glob("*.log")
    content = log.read_bytes()
    log.write_bytes(content[:-500])
    with pytest.raises(HeliosError, match="synced and are missing"):
        Database(copy)
    shutil.rmtree(copy)


def test_a_log_that_lost_what_was_never_synced_opens(database: Database, tmp_path: Path) -> None:
    put(database, REFS, {b"a": b"1"})
    database.sync()
    put(database, REFS, {b"b": b"2" * 1000})
    copy = copy_of_a_running(database, tmp_path / "copy")
    (log,) = copy.glob("*.log")
    log.write_bytes(log.read_bytes()[:-500])
    survivor = Database(copy)
    assert list(survivor.scan(REFS)) == [(b"a", b"1")]
    survivor.close()


def test_a_torn_note_of_the_last_sync_counts_as_none(database: Database, tmp_path: Path) -> None:
    put(database, REFS, {b"a": b"1"})
    database.sync()
    for content in (b"", b"\xff" * 7, b"\xff" * 16):
        copy = copy_of_a_running(database, tmp_path / "copy")
        (copy / module.SYNCED_NAME).write_bytes(content)
        survivor = Database(copy)
        assert survivor.get(REFS, b"a") == b"1"
        survivor.close()
        shutil.rmtree(copy)


def test_a_damaged_table_is_corruption_and_never_the_end_of_a_scan(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    put(database, RECORDS, {b"%05d" % n: bytes(100) for n in range(5000)})
    database.close()
    Database(tmp_path / "db").close()  # opening turns the log into a table
    (table,) = [path for path in (tmp_path / "db").glob("*.sst") if path.stat().st_size > 10_000]
    content = bytearray(table.read_bytes())
    for offset in range(len(content) // 3, len(content) // 2):
        content[offset] ^= 0x55
    table.write_bytes(content)
    database = Database(tmp_path / "db")
    with pytest.raises(Corruption):
        list(database.scan(RECORDS))
    outcomes = set()
    for n in range(0, 5000, 50):
        try:
            outcomes.add(database.get(RECORDS, b"%05d" % n))
        except Corruption:
            outcomes.add(b"corruption")
    assert outcomes == {bytes(100), b"corruption"}
    database.close()


@pytest.mark.parametrize("pattern", ["MANIFEST-*", "CURRENT", "*.sst"])
def test_a_damaged_or_missing_file_of_the_database_is_refused_with_a_way_out(tmp_path: Path, pattern: str) -> None:
    database = Database(tmp_path / "db")
    put(database, RECORDS, {b"key": b"value"})
    database.close()
    Database(tmp_path / "db").close()
    for path in (tmp_path / "db").glob(pattern):
        if pattern == "*.sst":
            path.unlink()
        else:
            path.write_bytes(b"damaged")
    with pytest.raises(HeliosError, match="restore the store from a backup"):
        Database(tmp_path / "db")


def test_where_nothing_can_be_written_no_damage_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database(tmp_path / "db").close()
    (tmp_path / "db" / "CURRENT").write_bytes(b"cannot be opened")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(HeliosError, match="where nothing can be written") as told:
        Database(tmp_path / "db", read_only=True)
    assert "backup" not in str(told.value)


def test_after_a_failed_write_the_database_is_opened_anew(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(database, RECORDS, {b"a": b"1"})
    batch = database.batch()
    batch.put(RECORDS, b"b", b"2")

    class Broken:
        def write(self, changes: object) -> None:
            raise Exception("IO error: No space left on device: While appending to file")

    rocks, database._rocks = database._rocks, Broken()
    with pytest.raises(OSError) as caught:
        database.write(batch)
    assert caught.value.errno == errno.ENOSPC
    stale = database.scan(RECORDS)
    with monkeypatch.context() as patch:
        patch.setattr(module, "FREE_BYTES_MIN", 1 << 60)
        with pytest.raises(OSError) as caught:
            database.batch()  # still no room: the database stays as it is, and can be read
    assert caught.value.errno == errno.ENOSPC and database.get(RECORDS, b"a") == b"1"
    database._rocks = rocks
    del rocks
    batch = database.batch()
    assert database._failure is None
    with pytest.raises(HeliosError):
        next(stale)
    batch.put(RECORDS, b"c", b"3")
    database.write(batch)
    database.sync()
    assert dict(database.scan(RECORDS)) == {b"a": b"1", b"c": b"3"}


def test_sync_lets_other_threads_run_and_write_beside_it(database: Database) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def sync() -> None:
        try:
            while not stop.is_set():
                database.sync()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=sync)
    thread.start()
    for n in range(200):
        put(database, REFS, {b"%d" % n: b"x"})
    stop.set()
    thread.join()
    assert failures == []
    assert sum(1 for _ in database.scan(REFS)) == 200


@given(prefix=st.binary(max_size=6), key=st.binary(max_size=8))
def test_the_bound_of_a_prefix_divides_the_keys(prefix: bytes, key: bytes) -> None:
    end = after_prefix(prefix)
    if end is None:
        assert prefix.strip(b"\xff") == b""
    else:
        assert (prefix <= key < end) == key.startswith(prefix)


def test_settings_are_bytes_of_any_kind(database: Database) -> None:
    put(database, SETTINGS, {bytes(range(256)): bytes(range(255, -1, -1)), b"empty": b""})
    assert database.get(SETTINGS, bytes(range(256))) == bytes(range(255, -1, -1))
    assert database.get(SETTINGS, b"empty") == b""
