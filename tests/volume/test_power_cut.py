"""Power cuts at any record: of what was not synced, any part may be missing, in journal, packs and database.

The disk is simulated: every sync notes how far each file is safe. At the cut each file loses a random part of what
lies beyond that (its end, or a piece in the middle that reads as zeros), files whose names were not synced may be
missing, and files that were deleted may be back. What comes up must be the state after some record, whole, and none
that is earlier than the last sync. HELIOSFS_TEST_CUT_SEEDS=N runs more seeds.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heliosfs.store import journal, packs
from heliosfs.store.store import Store
from heliosfs.volume.volume import Volume
from tests.store.support import copy_live
from tests.volume.test_volume_crash import MEMORY, describe_volume, operations

SEEDS = int(os.environ.get("HELIOSFS_TEST_CUT_SEEDS", "1"))


class Disk:
    """What of a store a power cut would leave."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.cuts = 0
        self._safe: dict[str, int] = {}
        """File -> how much of it a sync has covered."""
        self._names: dict[str, set[str]] = {}
        """Directory -> the names that a sync has covered."""
        self._deleted: dict[str, bytes] = {}
        """Files whose deletion no sync has covered."""
        fsync, fdatasync, unlink = os.fsync, os.fdatasync, os.unlink

        def synced(real: Callable[[int], None]) -> Callable[[int], None]:
            def sync(descriptor: int) -> None:
                self._note(os.readlink(f"/proc/self/fd/{descriptor}"))
                real(descriptor)

            return sync

        def deleted(path: str | Path, **how: int) -> None:
            if not how and Path(path).parent.name in ("journal", "packs"):
                self._deleted[str(path)] = Path(path).read_bytes()
            unlink(path, **how)

        patch.setattr(os, "fsync", synced(fsync))
        patch.setattr(os, "fdatasync", synced(fdatasync))
        patch.setattr(os, "unlink", deleted)

    def _note(self, path: str) -> None:
        if os.path.isdir(path):
            self._names[path] = set(os.listdir(path))
            self._deleted = {each: data for each, data in self._deleted.items() if os.path.dirname(each) != path}
        elif os.path.exists(path):
            self._safe[path] = os.stat(path).st_size

    def database_synced(self, store: Path) -> None:
        """RocksDB syncs its log by itself, and its other files before it makes use of them."""
        for log in (store / "db").glob("*.log"):
            self._safe[str(log)] = log.stat().st_size

    def cut(self, store: Path, copy: Path, chance: random.Random) -> None:
        """Make `copy` what is left of the store."""
        self.cuts += 1
        copy_live(store, copy)
        harmless = chance.choice([0.0, 0.5, 1.0])
        for path, data in self._deleted.items():
            if chance.random() > harmless:
                (copy / Path(path).relative_to(store)).write_bytes(data)
        for file in (*(copy / "journal").iterdir(), *(copy / "packs").iterdir(), *(copy / "db").glob("*.log")):
            if chance.random() < harmless:
                continue
            original = store / file.relative_to(copy)
            names = self._names.get(str(original.parent))
            if names is not None and file.name not in names and str(original) not in self._deleted:
                if file.parent.name != "db" and chance.random() < 0.3:
                    file.unlink()
                    continue
            self._lose(file, self._safe.get(str(original), 0), chance)

    @staticmethod
    def _lose(file: Path, safe: int, chance: random.Random) -> None:
        size = file.stat().st_size
        if size <= safe:
            return
        first, last = sorted((chance.randint(safe, size), chance.randint(safe, size)))
        with file.open("r+b") as opened:
            if chance.random() < 0.5:
                opened.truncate(first)
            else:
                opened.seek(first)
                opened.write(bytes(last - first))


def opened(path: Path) -> Volume:
    return Volume.open(Store.open(path))


def checked(copy: Path) -> object:
    """The state that comes up, which is there after a clean close and a collection as well."""
    volume = opened(copy)
    found = describe_volume(volume)
    volume.collect_blocking(step=lambda report: None)
    assert describe_volume(volume) == found, "after a collection"
    volume.close()
    volume = opened(copy)
    assert describe_volume(volume) == found, "after a clean close"
    volume.store.close()
    return found


def background(volume: Volume, disk: Disk, sync: Callable[[], None], chance: random.Random) -> Iterator[None]:
    """Flushes, with requests between their phases, collections, cutting and sealing, without end."""
    while True:
        for _ in range(chance.randrange(40)):
            if volume.dirty():
                volume.step()
            yield
        if chance.random() < 0.4:
            for _ in volume.collect():
                yield
        flush = volume.begin_flush()
        yield
        flush.sync()
        sync()
        yield
        flush.index()
        yield
        flush.write()
        disk.database_synced(volume.store.path)
        yield
        volume.end_flush(flush)
        yield


@pytest.mark.parametrize("seed", range(SEEDS))
def test_power_cuts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    # Small files, so that many begin and end.
    monkeypatch.setattr(journal.Journal.__init__, "__kwdefaults__", {"segment_bytes": 6000, "read_only": False})
    monkeypatch.setattr(packs.Packs.__init__, "__kwdefaults__", {"pack_bytes": 6000, "read_only": False})
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        path, copy = Path(directory, "store"), Path(directory, "copy")
        disk = Disk(monkeypatch)
        volume = opened(path)
        states = [describe_volume(volume)]
        safe = 0

        def sync() -> None:
            nonlocal safe
            safe = len(states) - 1

        volume.store.journal.sync()
        volume.store.database.sync()
        disk.database_synced(path)
        work = background(volume, disk, sync, chance)
        for number, call in enumerate(operations(volume, seed)):
            call()
            states.append(describe_volume(volume))
            for _ in range(chance.randrange(12)):
                next(work)
            if chance.random() < 0.1:
                volume.store.journal.sync()
                sync()
            disk.cut(path, copy, chance)
            found = checked(copy)
            place = next((index for index in range(len(states) - 1, -1, -1) if states[index] == found), None)
            assert place is not None, f"record {number}: a state that never was"
            assert place >= safe, f"record {number}: the state after {place}, but {safe} were synced"
            shutil.rmtree(copy)
        work.close()
        volume.store.close()
        print(f"{disk.cuts} cuts")
