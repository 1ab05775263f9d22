"""Copies of a store that is open and worked on, made file by file in any order, as `cp` and `rsync` do.

Such a copy is none of the store's states: its files are of different moments. What opens must be what some moment was,
or say what of it cannot be read. The work goes on between any two pieces that are copied: requests, cutting, sealing,
the phases of flushes, collections.

HELIOSFS_TEST_COPIES=N makes more copies, HELIOSFS_TEST_SEED=N others.
"""

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from heliosfs.base.errors import HeliosError
from heliosfs.store import journal, packs
from heliosfs.store.store import Store
from heliosfs.volume import fsck
from heliosfs.volume.volume import Volume
from tests.volume.test_damage import State, states
from tests.volume.test_volume_crash import MEMORY, operations

COPIES = int(os.environ.get("HELIOSFS_TEST_COPIES", "10"))
SEED = int(os.environ.get("HELIOSFS_TEST_SEED", "0"))
PIECE_BYTES = 2000


class Work:
    """Everything that goes on in a store, a little at each call; and every state that it has had."""

    def __init__(self, path: Path, seed: int) -> None:
        self.volume = Volume.open(Store.open(path))
        self.history: list[dict[str, State]] = []
        self._chance = random.Random(seed)
        self._calls = iter(operations(self.volume, seed))
        self._background = self._work_behind()
        self._note()

    def _note(self) -> None:
        self.history.append(states(self.volume))

    def go_on(self) -> bool:
        """Do something; False when there is nothing left to do."""
        for _ in range(self._chance.choice([0, 0, 1, 2, 5, 20])):
            next(self._background)
        if self._chance.random() < 0.3:
            call = next(self._calls, None)
            if call is None:
                return False
            call()
            self._note()
        return True

    def _work_behind(self) -> Iterator[None]:
        volume, chance = self.volume, self._chance
        while True:
            for _ in range(chance.randrange(20)):
                if volume.dirty():
                    volume.step()
                yield
            if chance.random() < 0.4:
                for _ in volume.collect():
                    yield
            flush = volume.begin_flush()
            for phase in (flush.sync, flush.index, flush.write):
                yield
                phase()
            yield
            volume.end_flush(flush)

    def end(self) -> None:
        self._background.close()
        self.volume.store.close()


def copy_file(source: Path, target: Path, go_on: Callable[[], object]) -> None:
    """As cp does it: piece by piece, while the file may grow, shrink, or go."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file, target.open("wb") as copy:
        while piece := file.read(PIECE_BYTES):
            copy.write(piece)
            go_on()


def copy_tree(store: Path, copy: Path, chance: random.Random, go_on: Callable[[], object]) -> None:
    """The directories in any order, each listed when its turn comes, its files in any order."""
    folders = [store, store / "db", store / "journal", store / "packs"]
    chance.shuffle(folders)
    for folder in folders:
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != "reserve"]
        chance.shuffle(files)
        (copy / folder.relative_to(store)).mkdir(parents=True, exist_ok=True)
        for path in files:
            try:
                copy_file(path, copy / path.relative_to(store), go_on)
            except FileNotFoundError:
                pass
            go_on()


def told(copy: Path) -> list[str]:
    try:
        with closing(Store.open(copy, create=False, read_only=True)) as store:
            return fsck.check(store).problems
    except HeliosError as error:
        return [str(error)]


def examine(copy: Path, history: list[dict[str, State]]) -> str:
    """Open a copy and read all of it; what it came to."""
    problems = told(copy)
    assert all(problems)
    try:
        with closing(Store.open(copy, create=False)) as store:
            found = states(Volume.open(store))
    except HeliosError as refusal:
        assert str(refusal) and problems, "what cannot be opened fsck does not call sound"
        return "refused"
    broken = any(not isinstance(content, bytes) for state in found.values() for content in state.values())
    assert problems or not broken, "what cannot be read fsck does not call sound"
    assert any(agree(found, state) for state in history), "a state that never was"
    return "partly" if broken else "a state"


def agree(found: dict[str, State], known: dict[str, State]) -> bool:
    """Whether all that can be read of a volume is as it was at one moment."""
    return found.keys() == known.keys() and all(
        not isinstance(content, bytes) or content == known[name].get(path)
        for name, state in found.items()
        for path, content in state.items()
    )


def test_copies_of_a_live_store(monkeypatch: pytest.MonkeyPatch) -> None:
    # Small files, so that many begin and end.
    monkeypatch.setattr(journal.Journal.__init__, "__kwdefaults__", {"segment_bytes": 6000, "read_only": False})
    monkeypatch.setattr(packs.Packs.__init__, "__kwdefaults__", {"pack_bytes": 6000, "read_only": False})
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="heliosfs-copy-", dir=MEMORY) as directory:
        path, copy = Path(directory, "store"), Path(directory, "copy")
        seed = SEED
        work = Work(path, seed)
        for number in range(COPIES):
            chance = random.Random(f"{SEED} {number}")
            for _ in range(chance.randrange(30)):
                if not work.go_on():
                    work.end()
                    shutil.rmtree(path)
                    seed += 1000
                    work = Work(path, seed)
            copy_tree(path, copy, chance, work.go_on)
            try:
                outcomes[examine(copy, work.history)] += 1
            except Exception as error:
                raise AssertionError(f"copy {number} of seed {SEED}") from error
            shutil.rmtree(copy)
        work.end()
    print(dict(outcomes))
    assert sum(outcomes.values()) == COPIES
