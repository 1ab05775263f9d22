"""Damage in any file of a store: a clear error or correct data, never wrong bytes, a traceback or a hang.

A store with some of everything is copied, one of its files is damaged, and everything that can be done with it is done:
fsck, opening, reading all states, collecting, closing, and opening again. Whatever a read returns must be what that
file was at some time; what is not whole must be told. HELIOSFS_TEST_DAMAGES=N does more, HELIOSFS_TEST_SEED=N others.
"""

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from heliosfs.base.errors import Corruption, HeliosError
from heliosfs.store.store import Store
from heliosfs.view.view import View
from heliosfs.volume import fsck
from heliosfs.volume.volume import Volume
from tests.store.support import copy_live
from tests.volume import trees
from tests.volume.conftest import CALLER

DAMAGES = int(os.environ.get("HELIOSFS_TEST_DAMAGES", "25"))
SEED = int(os.environ.get("HELIOSFS_TEST_SEED", "0"))
IGNORED = {"lock", "reserve", "LOG", "LOCK", "IDENTITY"}
"""Files that say nothing of the volume, with those whose names begin so."""

State = dict[bytes, bytes | str]
"""By path: the content of a file, or the error that reading it gave."""


class Known:
    """Everything that was ever at a path, and what the states are in the end."""

    def __init__(self) -> None:
        self.contents: dict[bytes, set[bytes]] = {}
        self.last: dict[str, State] = {}

    def note(self, volume: Volume) -> None:
        self.last = states(volume)
        for state in self.last.values():
            for path, content in state.items():
                assert isinstance(content, bytes), content
                # Putting new content in the place of old truncates first.
                self.contents.setdefault(path, {b""}).add(content)


def states(volume: Volume) -> dict[str, State]:
    """What all branches and snapshots show, read past what is damaged."""
    found: dict[str, State] = {}
    for branch in volume.registry.branches.values():
        name = os.fsdecode(b"/".join(branch.path()))
        found[name] = readable(branch.view)
        for snapshot in branch.snapshots.values():
            found[f"{name}@{os.fsdecode(snapshot.name)}"] = readable(volume.view_of(snapshot))
    return found


def readable(view: View) -> State:
    found: State = {}
    pending: list[tuple[bytes, int]] = [(b"", 1)]
    while pending:
        path, ino = pending.pop()
        try:
            inode = view.inode(ino)
            if inode.is_directory:
                pending += [(path + b"/" + name, child) for name, child, _ in view.entries(inode)]
                found[path] = b"a directory"
            elif inode.is_file:
                found[path] = bytes(view.read(inode, 0, inode.size))
            else:
                found[path] = view.readlink(inode)
        except Corruption as damage:
            assert str(damage)
            found[path] = str(damage)
    return found


def populate(volume: Volume, chance: random.Random) -> Known:
    """States that are sealed, frozen, mutable; content in packs, inline, in the journal; some of it twice."""
    known = Known()
    view = volume.main.view
    for turn in range(4):
        for number in range(12):
            size = chance.choice([3, 300, 5000, 40_000, 200_000])
            trees.put(view, b"dir-%d/file-%d" % (number % 3, number), chance.randbytes(size))
            known.note(volume)
        for number in range(150):
            trees.put(view, b"many/%d" % number, b"%d of %d" % (number, turn))
        trees.put(view, b"copy-%d" % turn, bytes(view.read(inode := view.resolve(b"dir-0/file-0"), 0, inode.size)))
        trees.link(view, b"link-%d" % turn, b"to/%d" % turn)
        known.note(volume)
        volume.snapshot(volume.main, b"s%d" % turn, CALLER)
        known.note(volume)
        if turn < 2:
            trees.settle(volume)
        if turn == 1:
            fork = volume.fork(volume.main, b"fork", CALLER)
            trees.put(fork.view, b"only here", chance.randbytes(60_000))
            known.note(volume)
        if turn == 2:
            volume.flush()
    volume.drop_snapshot(volume.main, b"s1", CALLER)
    trees.put(view, b"last", chance.randbytes(50_000))
    known.note(volume)
    return known


def flip(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 1, 20])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def zero(content: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(content))
    length = min(chance.choice([1, 16, 512, 4096, 100_000]), len(content) - at)
    content[at : at + length] = bytes(length)


def truncate(content: bytearray, chance: random.Random) -> None:
    del content[chance.choice([0, chance.randrange(len(content)), len(content) - 1]) :]


def swap(content: bytearray, chance: random.Random) -> None:
    length = min(chance.choice([4, 64, 4096]), len(content) // 2)
    one, two = chance.randrange(len(content) - length + 1), chance.randrange(len(content) - length + 1)
    content[one : one + length], content[two : two + length] = (
        content[two : two + length], content[one : one + length])  # fmt: skip


def extend(content: bytearray, chance: random.Random) -> None:
    content += chance.randbytes(chance.choice([1, 100, 5000]))


KINDS = [flip, flip, zero, truncate, swap, extend]


def damage(store: Path, chance: random.Random) -> tuple[str, str]:
    """Damage one file; which, and how. Every kind of file has the same chance."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(store.rglob("*")):
        if path.is_file() and path.stat().st_size and path.name.split(".")[0] not in IGNORED:
            kind = path.suffix or path.name.split("-")[0]
            kinds.setdefault(path.parent.name if kind.isdigit() else kind, []).append(path)
    kind = chance.choice(sorted(kinds))
    path = chance.choice(kinds[kind])
    if chance.random() < 0.05:
        path.unlink()
        return kind, f"{path} is gone"
    content = bytearray(path.read_bytes())
    how = chance.choice(KINDS)
    how(content, chance)
    path.write_bytes(content)
    return kind, f"{how.__name__} in {path}"


def check(store: Path) -> list[str]:
    with closing(Store.open(store, create=False, read_only=True)) as opened:
        return fsck.check(opened).problems


def examine(store: Path, known: Known) -> str:
    """Do everything with a damaged store; what it came to."""
    try:
        told = check(store)
    except HeliosError as error:
        assert str(store) in str(error), "the message names the thing"
        told = [str(error)]
    assert all(told)
    try:
        found, lost = used(store, known)
    except HeliosError as refusal:
        assert str(refusal) and told, "what cannot be opened fsck does not call sound"
        return "refused"
    hurt = any(isinstance(content, str) for state in found.values() for content in state.values())
    if hurt or lost:
        assert told, "what cannot be read fsck does not call sound"
        return "partly"
    return "unharmed" if found == known.last else "earlier"


def used(store: Path, known: Known) -> tuple[dict[str, State], int]:
    with closing(Store.open(store, create=False)) as opened:
        volume = Volume.open(opened)
        lost = opened.journal.lost
        found = states(volume)
        sound(found, known)
        try:
            volume.collect_blocking(step=lambda report: None)
        except (Corruption, OSError) as error:
            assert str(error)
        for name, state in states(volume).items():
            for path, content in state.items():
                if isinstance(found[name].get(path), bytes):
                    assert content == found[name][path], f"{name}: {path!r} after the collection"
        try:
            volume.close()
        except (HeliosError, OSError) as error:
            assert str(error)
            return found, lost
    with closing(Store.open(store, create=False)) as opened:
        sound(states(Volume.open(opened)), known)
    return found, lost


def sound(found: dict[str, State], known: Known) -> None:
    for name, state in found.items():
        for path, content in state.items():
            if isinstance(content, bytes):
                assert content in known.contents.get(path, ()), f"{name}: {path!r} has what it never had"


@pytest.fixture(scope="module", params=["closed", "killed"])
def original(request: pytest.FixtureRequest) -> Iterator[tuple[Path, Known, str]]:
    with tempfile.TemporaryDirectory(prefix="heliosfs-damage-", dir=trees.MEMORY) as directory:
        path = Path(directory) / "store"
        volume = Volume.open(Store.open(path))
        known = populate(volume, random.Random(SEED))
        if request.param == "closed":
            volume.close()
        else:
            copy_live(path, path.with_name("killed"))
            volume.store.close()
            path = path.with_name("killed")
        yield path, known, request.param


def test_damage(original: tuple[Path, Known, str]) -> None:
    path, known, end = original
    copy = path.with_name("copy")
    outcomes: Counter[tuple[str, str]] = Counter()
    for number in range(DAMAGES):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(path, copy, ignore=shutil.ignore_patterns("reserve"))
        kind, what = damage(copy, random.Random(f"{SEED} {end} {number}"))
        try:
            outcomes[kind, examine(copy, known)] += 1
        except Exception as error:
            raise AssertionError(f"damage {number} of seed {SEED}, {end}: {what}") from error
    print(*(f"{kind}: {outcome} {count}" for (kind, outcome), count in sorted(outcomes.items())), sep="\n")
    assert len({outcome for _, outcome in outcomes}) > 1
