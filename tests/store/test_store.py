"""The store: made whole or not at all, held by one, and never guessed at."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from heliosfs.base.errors import HeliosError
from heliosfs.store import store as module
from heliosfs.store.chunker import PARAMETERS
from heliosfs.store.database import SETTINGS
from heliosfs.store.objects import CHUNK
from heliosfs.store.store import FORMAT, RESERVE_BYTES, Store
from tests.store.support import flush


def test_a_new_store_is_laid_out(place: Path) -> None:
    store = Store.open(place)
    assert sorted(os.listdir(place)) == ["db", "format", "journal", "lock", "packs", "reserve"]
    assert store.path == place
    assert store.description["format"] == FORMAT and store.description["chunker"] == PARAMETERS
    store.close()
    again = Store.open(place)
    assert again.description == store.description
    again.close()
    other = Store.open(place.parent / "other")
    assert other.description["id"] != store.description["id"]
    other.close()


def test_everything_is_there_again(place: Path) -> None:
    store = Store.open(place)
    assert list(store.journal.replay()) == []
    position = store.journal.append(5, b"header", b"data")
    name = store.objects.put(b"object", CHUNK)
    batch = store.database.batch()
    batch.put(SETTINGS, b"mine", b"value")
    store.database.write(batch)
    flush(store)
    store.close()
    store = Store.open(place, create=False)
    assert [record.position for record in store.journal.replay()] == [position]
    assert store.objects.get(name) == b"object"
    assert store.database.get(SETTINGS, b"mine") == b"value"
    store.close()


def test_only_the_owner_can_look_inside(place: Path) -> None:
    store = Store.open(place)
    store.journal.close()
    for name in os.listdir(place):
        assert (place / name).stat().st_mode & 0o077 == 0 or name in ("format", "db")
    assert place.stat().st_mode & 0o077 == 0
    store.close()


def test_the_second_to_come_is_told_who_holds_it(place: Path) -> None:
    store = Store.open(place, holder="/mnt/work")
    with pytest.raises(HeliosError, match=rf"held by pid {os.getpid()}, mounted at /mnt/work"):
        Store.open(place)
    with pytest.raises(HeliosError, match="held by pid"):
        Store.open(place, read_only=True)
    store.close()
    reader = Store.open(place, read_only=True)
    with pytest.raises(HeliosError, match="held by another process"):
        Store.open(place)
    reader.close()
    Store.open(place).close()


def test_a_killed_holder_holds_nothing(place: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from heliosfs.store.store import Store; "
        "store = Store.open(Path(sys.argv[1]), holder='/mnt/x'); list(store.journal.replay()); "
        "store.journal.append(1, b'acknowledged'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(place)]).returncode == 9
    store = Store.open(place)
    assert [record.header for record in store.journal.replay()] == [b"acknowledged"]
    store.close()


@pytest.mark.parametrize("contents", [b"", b"garbage", b"[]", b'{"pid": "x"}', b"\xff\xfe"])
def test_a_lock_that_says_nothing_still_holds(place: Path, contents: bytes) -> None:
    store = Store.open(place)
    (place / "lock").write_bytes(contents)
    with pytest.raises(HeliosError, match="held by another process"):
        Store.open(place)
    store.close()


def test_a_newer_format_is_refused(place: Path) -> None:
    Store.open(place).close()
    description = json.loads((place / "format").read_text())
    (place / "format").write_text(json.dumps({**description, "format": FORMAT + 1}))
    with pytest.raises(HeliosError, match=f"format {FORMAT + 1}.*newer release"):
        Store.open(place)
    (place / "format").write_text(json.dumps(description))
    Store.open(place).close()  # the refusal let go of the lock


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', '{"id": "x"}', '{"format": "x", "id": ""}'])
def test_a_damaged_format_file_is_refused(place: Path, text: str) -> None:
    Store.open(place).close()
    (place / "format").write_text(text)
    with pytest.raises(HeliosError, match="damaged"):
        Store.open(place)


@pytest.mark.parametrize("name", ["journal", "packs", "db"])
def test_a_part_that_is_missing_is_never_made_anew(place: Path, name: str) -> None:
    Store.open(place).close()
    (place / name).rename(place.parent / "elsewhere")
    for read_only in (False, True):
        with pytest.raises(HeliosError, match=f"{name}.* is missing"):
            Store.open(place, read_only=read_only)
    assert not (place / name).exists()


def test_a_directory_with_other_things_in_it_is_refused_and_left_alone(place: Path) -> None:
    place.mkdir()
    (place / "thesis.txt").write_text("years of work")
    with pytest.raises(HeliosError, match="not a store and not empty"):
        Store.open(place)
    assert os.listdir(place) == ["thesis.txt"]


def test_a_store_that_lost_its_format_file_is_refused(place: Path) -> None:
    store = Store.open(place)
    list(store.journal.replay())
    store.journal.append(1, b"precious")
    store.close()
    (place / "format").unlink()
    with pytest.raises(HeliosError, match="not a store and not empty"):
        Store.open(place)


@pytest.mark.parametrize("stage", ["write_format", "reserve", "Database"])
def test_a_making_that_broke_off_is_taken_up_again(place: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    class Killed(BaseException):
        pass

    def kill(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, stage, kill)
        with pytest.raises(Killed):
            Store.open(place)
    assert not (place / "format").exists()
    Store.open(place).close()
    assert (place / "format").exists()


def test_without_create_nothing_is_made(place: Path) -> None:
    with pytest.raises(HeliosError, match="not a store"):
        Store.open(place, create=False)
    with pytest.raises(HeliosError, match="not a store"):
        Store.open(place, read_only=True)
    assert not place.exists()


def test_the_reserve_is_real_space_that_comes_and_goes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(place)
    reserve = place / "reserve"
    assert reserve.stat().st_size == RESERVE_BYTES and reserve.stat().st_blocks * 512 >= RESERVE_BYTES
    store.release_reserve()
    assert not reserve.exists()
    store.release_reserve()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert store.restore_reserve() is False
    assert not reserve.exists()
    with monkeypatch.context() as patch:  # where there is no room for a name either
        patch.setattr(os, "open", full)
        assert store.restore_reserve() is False
    assert store.restore_reserve() is True
    assert reserve.stat().st_size == RESERVE_BYTES
    store.close()


def test_a_reader_changes_no_file(place: Path) -> None:
    store = Store.open(place)
    list(store.journal.replay())
    store.journal.append(1, b"x")
    store.objects.put(b"object", CHUNK)
    flush(store)
    store.close()
    paths = [path for path in place.rglob("*") if path.is_file() and path.parent.name != "db"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    reader = Store.open(place, read_only=True)
    assert len(list(reader.journal.replay())) == 1
    second = Store.open(place, read_only=True)
    second.close()
    reader.close()
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths} == before


def test_nothing_stays_open(place: Path) -> None:
    Store.open(place).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        store = Store.open(place)
        list(store.journal.replay())
        name = store.objects.put(os.urandom(100), CHUNK)
        store.objects.load(name)
        store.journal.append(1, b"", b"data")
        flush(store)
        store.close()
    assert len(os.listdir("/proc/self/fd")) <= before
