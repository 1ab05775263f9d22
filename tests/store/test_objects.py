"""Objects: stored once, verified always, and in the index only when they are on disk."""

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from heliosfs.base.digests import digest
from heliosfs.base.errors import Corruption
from heliosfs.store.objects import CHUNK, NODE
from heliosfs.store.packs import HEADER_BYTES
from heliosfs.store.store import Store
from tests.store.support import flip, flush, full_disk

Opened = Callable[[], Store]

TEXT = b"some text that compresses well, " * 100


def pack(place: Path, number: int = 1) -> Path:
    return place / "packs" / f"{number:010d}"


def test_what_was_put_comes_back(opened: Opened) -> None:
    store = opened()
    contents: list[bytes | memoryview] = [b"", b"x", TEXT, os.urandom(100_000), memoryview(os.urandom(5000))]
    names = [store.objects.put(content, CHUNK) for content in contents]
    assert names == [digest(content) for content in contents]
    for _ in range(2):  # from disk, then from memory
        assert [store.objects.get(name) for name in names] == [bytes(content) for content in contents]
    assert (store.objects.statistics.cache_misses, store.objects.statistics.cache_hits) == (5, 5)


def test_nodes_are_not_kept_since_those_who_read_them_do(opened: Opened) -> None:
    store = opened()
    names = [store.objects.put(os.urandom(5000), kind) for kind in (NODE, CHUNK)]
    for _ in range(2):
        for name in names:
            store.objects.get(name)
    assert (store.objects.statistics.cache_misses, store.objects.statistics.cache_hits) == (3, 1)


def test_what_was_flushed_is_there_after_a_kill_and_the_rest_is_forgotten(opened: Opened, place: Path) -> None:
    store = opened()
    kept = [store.objects.put(os.urandom(5000), CHUNK) for _ in range(20)]
    flush(store)
    size = pack(place).stat().st_size
    lost = store.objects.put(os.urandom(5000), CHUNK)
    assert lost in store.objects
    store = opened()
    assert store.objects.forgotten == 5000 + HEADER_BYTES
    assert pack(place).stat().st_size == size
    assert all(name in store.objects and len(store.objects.get(name)) == 5000 for name in kept)
    assert lost not in store.objects
    with pytest.raises(Corruption) as caught:
        store.objects.get(lost)
    assert caught.value.digest == lost
    assert store.objects.statistics.objects == 20


def test_the_same_bytes_are_stored_once(opened: Opened, place: Path) -> None:
    store = opened()
    for _ in range(3):
        store.objects.put(TEXT, CHUNK)
    size = pack(place).stat().st_size
    flush(store)
    for _ in range(2):
        assert store.objects.put(TEXT, CHUNK) == digest(TEXT)
    store = opened()
    assert store.objects.put(memoryview(TEXT), CHUNK) == digest(TEXT)
    assert pack(place).stat().st_size == size
    counted = store.objects.statistics
    assert (counted.objects, counted.raw_bytes, counted.stored_bytes) == (1, len(TEXT), size)
    assert (counted.dedup_hits, counted.dedup_bytes) == (3, 3 * len(TEXT))  # two before the flush, one now
    assert size < len(TEXT) / 4


def test_the_index_takes_only_what_was_synced(opened: Opened, place: Path) -> None:
    store = opened()
    synced = store.objects.put(b"synced", CHUNK)
    store.objects.sync()
    later = store.objects.put(b"put after the sync", CHUNK)
    batch = store.database.batch()
    store.objects.write_index(batch)
    store.database.write(batch)
    assert synced in store.objects and later in store.objects
    store = opened()
    assert synced in store.objects and later not in store.objects


def test_a_flush_whose_write_fails_loses_nothing(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    name = store.objects.put(TEXT, CHUNK)
    store.objects.sync()
    batch = store.database.batch()
    store.objects.write_index(batch)
    with monkeypatch.context() as patch:
        patch.setattr("heliosfs.store.database.FREE_BYTES_MIN", 1 << 60)
        with pytest.raises(OSError):
            store.database.write(batch)
    assert store.objects.load(name) == TEXT
    flush(store)
    store = opened()
    assert store.objects.load(name) == TEXT


def test_a_batch_that_never_reached_the_disk_takes_its_pack_bytes_along(opened: Opened, place: Path) -> None:
    """A power cut between the sync of the packs and that of the database."""
    store = opened()
    kept = store.objects.put(b"kept" * 10, CHUNK)
    flush(store)
    copy = place.parent / "copy"
    shutil.copytree(place, copy)
    lost = store.objects.put(b"lost" * 10, CHUNK)
    store.objects.sync()
    shutil.copy(pack(place), pack(copy))
    survivor = Store.open(copy)
    assert survivor.objects.get(kept) == b"kept" * 10
    assert lost not in survivor.objects
    assert survivor.objects.put(b"lost" * 10, CHUNK) == lost
    assert survivor.objects.load(lost) == b"lost" * 10
    survivor.close()


def test_whole_packs_that_the_index_does_not_know_are_removed(opened: Opened, place: Path) -> None:
    opened().objects.put(TEXT, CHUNK)
    opened()
    assert os.listdir(place / "packs") == []


@pytest.mark.parametrize("content", [TEXT, os.urandom(100)], ids=["compressed", "raw"])
def test_no_flipped_bit_ever_gives_wrong_bytes(opened: Opened, place: Path, content: bytes) -> None:
    store = opened()
    name = store.objects.put(content, CHUNK)
    neighbour = store.objects.put(b"neighbour", NODE)
    flush(store)
    end = next(location.end for found, _, location in store.objects.iterate() if found == name)
    for offset in range(end):
        flip(pack(place), offset, offset % 8)
        with pytest.raises(Corruption) as caught:
            store.objects.load(name)
        assert caught.value.digest == name
        assert store.objects.load(neighbour) == b"neighbour"
        flip(pack(place), offset, offset % 8)
        assert store.objects.load(name) == content


def test_a_damaged_object_is_written_again_by_the_next_put(opened: Opened, place: Path) -> None:
    store = opened()
    name = store.objects.put(TEXT, CHUNK)
    flush(store)
    stored = store.objects.statistics.stored_bytes
    flip(pack(place), HEADER_BYTES + 5)
    with pytest.raises(Corruption):
        store.objects.get(name)
    assert name not in store.objects
    assert store.objects.put(TEXT, CHUNK) == name
    assert name in store.objects and store.objects.get(name) == TEXT
    assert store.objects.statistics.dedup_hits == 0
    assert store.objects.statistics.objects == 1 and store.objects.statistics.stored_bytes == stored
    flush(store)
    store = opened()
    assert store.objects.get(name) == TEXT
    assert store.objects.put(TEXT, CHUNK) == name and store.objects.statistics.dedup_hits == 1


@pytest.mark.parametrize("offset", [0, 20, HEADER_BYTES + 5])
def test_damage_that_nobody_has_read_does_not_absorb_a_put(opened: Opened, place: Path, offset: int) -> None:
    store = opened()
    name = store.objects.put(TEXT, CHUNK)
    flush(store)
    store = opened()
    flip(pack(place), offset)
    assert store.objects.put(TEXT, CHUNK) == name
    assert store.objects.statistics.dedup_hits == 0 and store.objects.statistics.objects == 1
    assert store.objects.load(name) == TEXT
    flush(store)
    store = opened()
    assert store.objects.load(name) == TEXT


def test_a_known_object_is_read_once(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    store.objects.put(TEXT, CHUNK)
    flush(store)
    store = opened()
    reads = []
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        reads.append(offset)
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    for _ in range(3):
        store.objects.put(TEXT, CHUNK)
    assert len(reads) == 1 and store.objects.statistics.dedup_hits == 3


def test_that_an_object_is_suspect_outlives_the_process(opened: Opened, place: Path) -> None:
    store = opened()
    name = store.objects.put(TEXT, CHUNK)
    flush(store)
    flip(pack(place), HEADER_BYTES + 5)
    with pytest.raises(Corruption):
        store.objects.verify(name)
    flush(store)
    for _ in range(2):
        store = opened()
        assert name not in store.objects
        with pytest.raises(Corruption):
            store.objects.get(name)
        flush(store)
    store.objects.put(TEXT, CHUNK)
    flush(store)
    store = opened()
    assert name in store.objects and store.objects.get(name) == TEXT


def test_a_damaged_object_that_is_still_pending_is_written_again(opened: Opened, place: Path) -> None:
    store = opened()
    name = store.objects.put(TEXT, CHUNK)
    later = store.objects.put(b"later", CHUNK)
    flip(pack(place), HEADER_BYTES + 5)
    with pytest.raises(Corruption):
        store.objects.load(name)
    store.objects.put(TEXT, CHUNK)
    flush(store)
    store = opened()
    assert store.objects.load(name) == TEXT and store.objects.load(later) == b"later"
    assert store.objects.statistics.objects == 2


@pytest.mark.parametrize("lost", ["tail", "file"])
def test_what_lay_in_a_lost_part_of_a_pack_is_written_again_unread(opened: Opened, place: Path, lost: str) -> None:
    store = opened()
    whole = store.objects.put(b"whole" * 10, CHUNK)
    name = store.objects.put(TEXT, CHUNK)
    flush(store)
    store.close()
    if lost == "tail":
        os.truncate(pack(place), pack(place).stat().st_size - 1)
    else:
        pack(place).unlink()
    store = Store.open(place)
    assert name not in store.objects
    assert (whole in store.objects) == (lost == "tail")
    assert store.objects.put(TEXT, CHUNK) == name
    list(store.journal.replay())
    flush(store)
    store.close()
    store = Store.open(place)
    assert store.objects.get(name) == TEXT
    store.close()


@pytest.mark.parametrize("number, expected", [(errno.EIO, Corruption), (errno.ENOMEM, OSError)])
def test_a_disk_that_cannot_be_read_is_damage(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception]
) -> None:
    store = opened()
    name = store.objects.put(TEXT, CHUNK)

    def fail(descriptor: int, length: int, offset: int) -> bytes:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        with pytest.raises(expected):
            store.objects.load(name)
    assert store.objects.load(name) == TEXT


@pytest.mark.parametrize("room", range(0, 150, 13))
def test_a_full_disk_changes_nothing(opened: Opened, place: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    store = opened()
    before = store.objects.put(b"before", CHUNK)
    counted = store.objects.statistics.objects
    content = bytes(range(100))
    with full_disk(monkeypatch, room), pytest.raises(OSError) as caught:
        store.objects.put(content, CHUNK)
    assert caught.value.errno == errno.ENOSPC
    assert digest(content) not in store.objects and store.objects.statistics.objects == counted
    assert store.objects.load(before) == b"before"
    name = store.objects.put(content, CHUNK)
    flush(store)
    store = opened()
    assert store.objects.get(name) == content and store.objects.get(before) == b"before"


def test_iterate_has_every_object_once_as_of_the_call(opened: Opened) -> None:
    store = opened()
    chunks = [store.objects.put(b"chunk %d" % n, CHUNK) for n in range(50)]
    flush(store)
    nodes = [store.objects.put(b"node %d" % n, NODE) for n in range(50)]
    entries = store.objects.iterate()
    flush(store)
    store.objects.put(b"later", CHUNK)
    found = [(name, kind) for name, kind, _ in entries]
    assert sorted(found) == sorted([(name, CHUNK) for name in chunks] + [(name, NODE) for name in nodes])


def test_reading_alone_needs_no_recovery(opened: Opened, place: Path) -> None:
    store = opened()
    name = store.objects.put(TEXT, CHUNK)
    flush(store)
    store.objects.put(b"not in the index", CHUNK)
    store.close()
    size = pack(place).stat().st_size
    store = Store.open(place, read_only=True)
    assert store.objects.get(name) == TEXT
    assert [found for found, _, _ in store.objects.iterate()] == [name]
    store.close()
    assert pack(place).stat().st_size == size


def test_a_batch_may_be_written_by_another_thread(opened: Opened) -> None:
    """What it took over is settled by the owner's thread, and never an object that was written again meanwhile."""
    store = opened()
    name = store.objects.put(TEXT, CHUNK)
    store.objects.sync()
    batch = store.database.batch()
    store.objects.write_index(batch)
    thread = threading.Thread(target=store.database.write, args=(batch,))
    thread.start()
    thread.join()
    assert store.objects.load(name) == TEXT
    assert flush(store) == 0
    before = store.objects.statistics.objects
    for _ in store.objects.collect(lambda digest: False):  # flushed, so no longer protected as pending
        pass
    assert name not in store.objects and store.objects.statistics.objects == before - 1


def test_cold_reads_and_syncs_in_threads_beside_puts(opened: Opened) -> None:
    store = opened()
    names = [store.objects.put(b"%d" % n * 50, CHUNK) for n in range(200)]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for n, name in enumerate(names):
                assert store.objects.load(name) == b"%d" % n * 50
                if n % 50 == 0:
                    store.objects.sync()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(200):
        store.objects.put(b"more %d" % n, CHUNK)
        if n % 40 == 0:
            batch = store.database.batch()
            store.objects.write_index(batch)
            store.database.write(batch)
    for thread in threads:
        thread.join()
    assert failures == []


def test_figures_tell_what_deduplication_and_compression_save(opened: Opened) -> None:
    store = opened()
    assert store.objects.statistics.figures()["deduplication_ratio"] == 1
    for _ in range(4):
        store.objects.put(TEXT, CHUNK)
    figures = store.objects.statistics.figures()
    assert (figures["objects"], figures["logical_bytes"], figures["unique_bytes"]) == (1, 4 * len(TEXT), len(TEXT))
    assert figures["deduplication_ratio"] == 4
    assert 0 < figures["stored_bytes"] < len(TEXT) and figures["compression_ratio"] > 1
