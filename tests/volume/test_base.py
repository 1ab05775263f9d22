"""A directory as the beginning of a volume: like an import of it at every moment, whatever was taken in so far."""

import errno
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from heliosfs.base.errors import HeliosError, Refusal
from heliosfs.store.store import Store
from heliosfs.view import base_directory
from heliosfs.view.view import View
from heliosfs.volume import fsck, settling, taking_in
from heliosfs.volume.changes import changes
from heliosfs.volume.intake import Intake
from heliosfs.volume.source import batches, read_directory
from heliosfs.volume.volume import Volume
from tests.volume import trees
from tests.volume.trees import CALLER, move, put, remove, shown, work

FILES = [b"a", b"d/b", b"d/c", b"d/e/f", b"d/e/g", b"d/e/h/i", b"x/y", b"x/z/k"]
DIRECTORIES = [b"", b"d", b"d/e", b"d/e/h", b"x", b"x/z", b"empty"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory with a base in it."""
    with tempfile.TemporaryDirectory(prefix="heliosfs-base-", dir=trees.MEMORY) as directory:
        base = Path(directory) / "base"
        chance = random.Random(3)
        for each in DIRECTORIES:
            (base / os.fsdecode(each)).mkdir(parents=True, exist_ok=True)
        for number, each in enumerate(FILES):
            size = (10, 600, 5_000, 1_300_000)[number % 4]
            (base / os.fsdecode(each)).write_bytes(chance.randbytes(size))
        os.symlink("d/b", base / "link")
        os.mkfifo(base / "x" / "fifo")
        (base / "none").touch()
        with open(base / "x" / "sparse", "wb") as file:
            file.truncate(3 << 20)
            for at in (200_000, 1 << 20, 2 << 20):
                file.seek(at)
                file.write(chance.randbytes(9_000))
        os.chmod(base / "d" / "c", 0o640)
        yield Path(directory)


def with_base(place: Path, name: str = "store") -> Volume:
    return Volume.open(Store.open(place / name), str(place / "base"))


def imported(place: Path) -> Volume:
    volume = Volume.open(Store.open(place / "imported"))
    intake = Intake(volume, volume.main, b".", CALLER, True)
    descriptor = os.open(place / "base", os.O_RDONLY)
    for batch in batches(read_directory(descriptor, -1)):
        for _ in intake.take(batch):
            pass
    os.close(descriptor)
    intake.finish("base", "")
    return volume


def told(view: View) -> dict[bytes, Any]:
    """What counts of a tree; numbers aside, and the root, which an import does not touch."""
    return {path: each[:-1] for path, each in shown(view).items() if path != b"."}


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories come in pieces and what is done is moved on all the time, with a few files."""
    monkeypatch.setattr(base_directory, "PIECE_FILES", 3)
    monkeypatch.setattr(taking_in, "FILES_AHEAD", 4)
    monkeypatch.setattr(taking_in, "STEP_NANOSECONDS", 0)
    monkeypatch.setattr(settling, "SETTLE_INODES", 5)


def check(path: Path) -> None:
    with closing(Store.open(path, read_only=True)) as store:
        assert fsck.check(store).problems == []


def act(volume: Volume, chance: random.Random, number: int) -> None:
    """Something that a user could do; what is not possible is left out."""
    branch = chance.choice([volume.main, *volume.main.children.values()])
    view, path = branch.view, chance.choice(FILES)
    kind, data = chance.randrange(12), chance.randbytes(chance.choice((5, 3_000)))
    try:
        if kind == 0:
            put(view, path, data)
        elif kind in (1, 2):
            view.write(view.resolve(path), chance.randrange(2_000), data)
        elif kind == 3:
            path = chance.choice([*FILES, *DIRECTORIES[1:]])
            view.resolve(path)
            remove(view, path)
        elif kind == 4:
            move(view, chance.choice([*FILES, *DIRECTORIES[1:]]), b"moved%d" % number)
        elif kind == 5:
            view.set_attributes(view.resolve(path), mode=0o600 + number % 8)
        elif kind == 6:
            view.set_attributes(view.resolve(path), size=chance.randrange(4_000))
        elif kind == 7:
            view.link(view.resolve(path), view.root, b"linked%d" % number)
        elif kind == 8:
            volume.snapshot(volume.main, b"s%d" % number, CALLER)
        elif kind == 9 and len(volume.main.children) < 3:
            volume.fork(volume.main, b"b%d" % number, CALLER)
        elif kind == 10 and volume.main.snapshots:
            volume.restore(volume.main, os.fsdecode(sorted(volume.main.snapshots)[-1]), CALLER)
        else:
            directory = view.resolve(chance.choice(DIRECTORIES))
            view.entries(directory)
    except Refusal:
        pass


def collect(volume: Volume, pace: random.Random) -> None:
    """A collection, beside which the rest goes on."""
    for _ in volume.collect():
        if pace.random() < 0.3 and volume.dirty():
            volume.step()
    volume.flush()


@pytest.mark.parametrize("seed", range(4))
def test_it_is_like_an_import(place: Path, seed: int, request: pytest.FixtureRequest) -> None:
    if seed % 2:
        request.getfixturevalue("small_steps")
    volume, other = with_base(place), imported(place)
    pace = random.Random(seed)
    for name in list(volume.main.snapshots):
        volume.drop_snapshot(volume.main, name, CALLER)
    for number in range(60):
        act(volume, random.Random(seed * 1000 + number), number)
        act(other, random.Random(seed * 1000 + number), number)
        for _ in range(pace.choice((0, 0, 0, 1, 2))):
            if volume.dirty():
                volume.step()
        if pace.random() < 0.05:
            volume.flush()
        if pace.random() < 0.05:
            collect(volume, pace)
        if pace.random() < 0.06:
            if pace.random() < 0.5:
                volume.close()
                check(place / "store")
            else:
                volume.store.close()  # as a kill leaves it
            volume = with_base(place)
    assert told(volume.main.view) == told(other.main.view)
    for name, snapshot in other.main.snapshots.items():
        assert told(volume.view_of(volume.main.snapshots[name])) == told(other.view_of(snapshot))
    for name, child in other.main.children.items():
        assert told(volume.main.children[name].view) == told(child.view)
    work(volume)
    assert volume.flush_due() or not volume.taking_in.needed()
    volume.flush()
    assert volume.taking_in.status() == {"directory": str(place / "base"), "needed": False}
    shutil.rmtree(place / "base")
    volume.close()
    check(place / "store")
    volume = Volume.open(Store.open(place / "store"))
    assert told(volume.main.view) == told(other.main.view)
    volume.close()
    other.close()


def test_nothing_is_read_that_nobody_touches(place: Path) -> None:
    volume = with_base(place)
    assert volume.taking_in.status() == {
        "directory": str(place / "base"), "needed": True, "directories_left": 1, "files_left": 0, "left_bytes": 0,
        "changed": {},
    }  # fmt: skip
    first = volume.snapshot(volume.main, b"s", CALLER)
    put(volume.main.view, b"a", b"new")
    found = changes(volume.engine, first.state, volume.main.view.top)
    assert [(change.kind, change.path) for change in found] == [("M", b"a")]
    status = volume.taking_in.status()
    assert status is not None and status["directories_left"] == 3, "the root was read, what is in it was not"
    number = volume.main.view.resolve(b"d/b").ino
    volume.close()
    volume = with_base(place)
    assert volume.main.view.resolve(b"d/b").ino == number
    assert volume.view_of(volume.main.snapshots[b"s"]).resolve(b"d/b").ino == number
    volume.close()


def test_what_changed_before_it_was_taken_in_is_stale(place: Path) -> None:
    volume = with_base(place)
    view = volume.main.view
    kept = view.resolve(b"d/c")
    content = bytes(view.read(kept, 0, kept.size))
    view.resolve(b"d/b")
    (place / "base" / "d" / "b").write_bytes(b"other")
    (place / "base" / "x" / "more").touch()
    for act in (lambda: view.read(view.resolve(b"d/b"), 0, 10), lambda: view.resolve(b"x/y")):
        with pytest.raises(Refusal) as refusal:
            act()
        assert refusal.value.errno == errno.ESTALE
    work(volume)
    (place / "base" / "d" / "c").write_bytes(b"too late to matter")
    assert bytes(view.read(kept, 0, kept.size)) == content
    status = volume.taking_in.status()
    assert status is not None and set(status["changed"]) == {"d/b", "x"} and status["needed"]
    assert status["files_left"] == 1 and status["directories_left"] == 1
    view.write(view.resolve(b"d/b"), 0, b"n" * 600)
    assert bytes(view.read(view.resolve(b"d/b"), 0, 600)) == b"n" * 600
    put(view, b"f", b"the rest goes on")
    volume.close()
    check(place / "store")
    volume = Volume.open(Store.open(place / "store"))
    assert bytes(volume.main.view.read(volume.main.view.resolve(b"f"), 0, 100)) == b"the rest goes on"
    volume.close()


def test_what_is_in_memory_does_not_grow_with_the_base(place: Path, small_steps: None) -> None:
    for number in range(400):
        directory = place / "base" / "many" / str(number % 20)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / str(number)).write_bytes(b"%d" % number * 300)
    volume = with_base(place)
    most = 0
    pace = random.Random(8)
    while volume.dirty():
        volume.step()
        bottom = volume.registry.layers[volume.registry.base.layer] if volume.registry.base else None
        assert bottom is not None
        most = max(most, len(bottom.deltas))
        chance = pace.random()
        if chance < 0.02:
            volume.flush()
        elif chance < 0.03:
            volume.store.close()
            volume = with_base(place)
        elif chance < 0.035:
            collect(volume, pace)
    assert most < 250
    volume.flush()
    assert not volume.taking_in.needed()
    view = volume.main.view
    for number in range(400):
        file = view.resolve(b"many/%d/%d" % (number % 20, number))
        assert bytes(view.read(file, 0, 2_000)) == b"%d" % number * 300
    assert len(view.entries(view.resolve(b"many"))) == 20
    volume.close()
    check(place / "store")


@pytest.mark.parametrize("killed", [False, True])
def test_the_names_of_one_file_lead_to_one_inode(place: Path, small_steps: None, killed: bool) -> None:
    base = place / "base"
    os.link(base / "d" / "b", base / "x" / "b2")
    os.link(base / "d" / "b", base / "d" / "e" / "h" / "b3")
    os.link(base / "d" / "c", base / "x" / "c2")
    os.link(base / "d" / "c", place / "outside")
    volume = with_base(place)
    first = volume.main.view.resolve(b"d/b")
    assert first.nlink == 1
    assert bytes(volume.main.view.read(first, 0, 600)) == (base / "d" / "b").read_bytes()
    volume.step()
    if killed:
        volume.store.close()
        volume = with_base(place)
    view = volume.main.view
    work(volume)
    numbers = {view.resolve(path).ino for path in (b"d/b", b"x/b2", b"d/e/h/b3")}
    assert numbers == {first.ino} and view.resolve(b"x/b2").nlink == 3
    assert view.resolve(b"d/c").ino == view.resolve(b"x/c2").ino and view.resolve(b"d/c").nlink == 2
    assert volume.taking_in.grown() or killed
    view.write(view.resolve(b"x/b2"), 0, b"through another name")
    assert bytes(view.read(view.resolve(b"d/b"), 0, 20)) == b"through another name"
    volume.flush()
    assert not volume.taking_in.needed()
    view.unlink(view.resolve(b"d"), b"b")
    assert view.resolve(b"x/b2").nlink == 2
    volume.close()
    check(place / "store")


def test_a_name_that_is_met_after_a_change_is_a_file_of_its_own(place: Path) -> None:
    os.link(place / "base" / "d" / "b", place / "base" / "x" / "b2")
    was = (place / "base" / "d" / "b").read_bytes()
    volume = with_base(place)
    view = volume.main.view
    view.set_attributes(view.resolve(b"d/b"), mode=0o600)
    view.write(view.resolve(b"d/b"), 0, b"mine")
    work(volume)
    other = view.resolve(b"x/b2")
    assert other.ino != view.resolve(b"d/b").ino and other.nlink == 1
    assert bytes(view.read(other, 0, 2_000)) == was
    volume.close()
    check(place / "store")


def test_holes_stay_holes(place: Path) -> None:
    volume = with_base(place)
    view = volume.main.view
    allocated = os.stat(place / "base" / "x" / "sparse").st_blocks * 512
    assert 27_000 <= view.resolve(b"x/sparse").allocated <= allocated < 200_000
    work(volume)
    volume.flush()
    volume.close()
    volume = Volume.open(Store.open(place / "store"))
    file = volume.main.view.resolve(b"x/sparse")
    assert 27_000 <= file.allocated <= allocated
    assert bytes(volume.main.view.read(file, 0, 3 << 20)) == (place / "base" / "x" / "sparse").read_bytes()
    volume.close()


def test_a_large_directory_is_read_in_pieces(place: Path, small_steps: None) -> None:
    for number in range(300):
        (place / "base" / "d" / f"n{number}").touch()
    volume = with_base(place)
    view = volume.main.view
    number = view.resolve(b"d").ino
    layer = volume.registry.layers[volume.main.view.top.below.id] if view.top.below else None
    assert layer is not None and layer.lister is not None
    while not layer.deltas[number].entries:
        volume.step()
    for _ in range(10):
        volume.step()
    begun = len(layer.deltas[number].entries or ())
    assert 0 < begun < 100
    assert view.resolve(b"d/n277").size == 0, "who looks does not wait for the background"
    assert len(view.entries(view.resolve(b"d"))) == 303
    volume.close()
    check(place / "store")


def test_a_base_that_is_gone(place: Path) -> None:
    volume = with_base(place)
    volume.main.view.resolve(b"d/b")
    volume.close()
    (place / "base").rename(place / "elsewhere")
    volume = Volume.open(Store.open(place / "store"))
    with pytest.raises(Refusal, match="is not there"):
        volume.main.view.read(volume.main.view.resolve(b"d/b"), 0, 1)
    volume.close()
    (place / "elsewhere").rename(place / "base")
    volume = Volume.open(Store.open(place / "store"))
    work(volume)
    assert told(volume.main.view)[b"d/b"][1] == (place / "base" / "d" / "b").read_bytes()
    volume.close()


def test_a_base_is_for_a_new_volume(place: Path) -> None:
    Volume.open(Store.open(place / "store")).close()
    store = Store.open(place / "store")
    with pytest.raises(HeliosError, match="can only be what a new one begins with"):
        Volume.open(store, str(place / "base"))
    store.close()


def test_against_a_state_that_has_nothing_of_it(place: Path) -> None:
    volume = with_base(place)
    empty = volume.fork(volume.main, b"empty", CALLER, empty=True)
    found = changes(volume.engine, empty.view.top, volume.main.view.top)
    assert {change.path for change in found if change.kind == "A"} >= {*FILES, b"link", b"x/fifo", b"empty"}
    volume.close()
    check(place / "store")
