"""A database that cannot be read is rebuilt from its spare and the packs; the journal goes on from there.

HELIOSFS_TEST_REBUILDS=N damages N more files of each store in each way.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from heliosfs.base.errors import HeliosError
from heliosfs.cli.fsck import command
from heliosfs.store import spare
from heliosfs.store.store import Store
from heliosfs.volume.volume import Volume
from tests.store.support import copy_live
from tests.volume import trees
from tests.volume.conftest import CALLER
from tests.volume.test_damage import State, states

REBUILDS = int(os.environ.get("HELIOSFS_TEST_REBUILDS", "1"))


def populate(volume: Volume, chance: random.Random) -> None:
    """States that are sealed, frozen, mutable; content in packs, inline, in the journal; some flushes."""
    view = volume.main.view
    for turn in range(4):
        for number in range(6):
            size = chance.choice([3, 300, 5000, 40_000, 200_000])
            trees.put(view, b"dir-%d/file-%d" % (number % 2, number), chance.randbytes(size))
        trees.put(view, b"dir-%d/turn" % turn, b"%d" % turn)
        volume.snapshot(volume.main, b"s%d" % turn, CALLER)
        if turn < 2:
            trees.settle(volume)
        if turn == 1:
            trees.put(volume.fork(volume.main, b"fork", CALLER).view, b"only here", chance.randbytes(60_000))
        if turn == 2:
            volume.flush()
    volume.drop_snapshot(volume.main, b"s1", CALLER)
    trees.put(view, b"last", chance.randbytes(50_000))


def fsck(path: Path, *options: str) -> Result:
    return CliRunner().invoke(command, [str(path), *options])


def opened(path: Path) -> Volume:
    return Volume.open(Store.open(path, create=False))


@pytest.fixture(scope="module", params=["closed", "killed", "spare one flush behind"])
def original(request: pytest.FixtureRequest) -> Iterator[tuple[Path, dict[str, State]]]:
    """A store with some of everything. The last: killed when a flush was in the database and not yet in the spare."""
    with tempfile.TemporaryDirectory(prefix="heliosfs-rebuild-") as directory:
        path = Path(directory) / "store"
        volume = Volume.open(Store.open(path))
        populate(volume, random.Random(1))
        known = states(volume)
        if request.param == "closed":
            volume.close()
        elif request.param == "killed":
            copy_live(path, path.with_name("killed"))
            volume.store.close()
            path = path.with_name("killed")
        else:
            volume.drop_snapshot(volume.main, b"s0", CALLER)
            known = states(volume)
            for _ in volume.collect():
                pass
            flush = volume.begin_flush()
            flush.sync()
            flush.index()
            before = (path / "spare").read_bytes()
            flush.write()
            assert (path / "spare").read_bytes() != before
            (path / "spare").write_bytes(before)
            volume.store.close()
        yield path, known


def gone(path: Path) -> None:
    path.unlink()


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for at in range(0, len(content), 97):
        content[at] ^= 0x10
    path.write_bytes(content)


def halved(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("how", [gone, flipped, halved])
def test_any_file_of_the_database(original: tuple[Path, dict[str, State]], how: Callable[[Path], None]) -> None:
    path, known = original
    names = sorted(file.name for file in (path / "db").iterdir() if file.stat().st_size)
    random.Random(how.__name__).shuffle(names)
    for name in ("*", *names[:REBUILDS]):
        copy = path.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(path, copy, ignore=shutil.ignore_patterns("reserve"))
        for file in list((copy / "db").glob(name)):
            how(file)
        result = fsck(copy, "--repair")
        assert result.exit_code == 0, (name, result.output, result.exception)
        assert ("rebuilt" in result.stderr) == (copy / "db.damaged-1").exists()
        assert name != "*" or "rebuilt" in result.stderr
        volume = opened(copy)
        assert states(volume) == known, name
        trees.put(volume.main.view, b"new", b"new" * 1000)
        volume.collect_blocking(step=lambda report: None)
        volume.close()
        assert fsck(copy).exit_code == 0, name


def test_again_and_again(original: tuple[Path, dict[str, State]]) -> None:
    path, known = original
    copy = path.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("reserve"))
    for number in range(1, 3):
        (copy / "db" / "CURRENT").unlink()
        with pytest.raises(HeliosError, match="fsck --repair"):
            opened(copy)
        assert fsck(copy, "--repair").exit_code == 0
        assert (copy / f"db.damaged-{number}").is_dir()
        volume = opened(copy)
        assert states(volume) == known
        volume.close()


@pytest.mark.parametrize("how", [gone, flipped])
def test_without_a_spare_nothing_is_guessed(
    original: tuple[Path, dict[str, State]], how: Callable[[Path], None]
) -> None:
    path, _ = original
    copy = path.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("reserve"))
    (copy / "db" / "CURRENT").unlink()
    how(copy / "spare")
    result = fsck(copy, "--repair")
    assert isinstance(result.exception, HeliosError) and "cannot be rebuilt" in str(result.exception)
    assert not list(copy.glob("db.damaged*"))


def test_damaged_objects_stay_damaged(original: tuple[Path, dict[str, State]]) -> None:
    path, known = original
    copy = path.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("reserve"))
    (copy / "db" / "CURRENT").unlink()
    for pack in (copy / "packs").iterdir():
        content = bytearray(pack.read_bytes())
        for at in range(0, len(content), 3000):
            content[at] ^= 1
        pack.write_bytes(content)
    result = fsck(copy, "--repair")
    assert result.exit_code == 1 and "damaged" in result.output
    volume = opened(copy)
    found = states(volume)
    volume.store.close()
    assert found.keys() == known.keys()
    for name, state in found.items():
        for file, content in state.items():
            assert not isinstance(content, bytes) or content == known[name][file]


def test_the_spare_is_made_anew_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "ANEW_BYTES_MIN", 10_000)
    volume = Volume.open(Store.open(tmp_path / "store"))
    for number in range(30):
        for name in range(20):
            trees.put(volume.main.view, b"file-%d" % name, b"%d" % number)
        volume.flush()
    assert (tmp_path / "store" / "spare").stat().st_size < 60_000
    known = states(volume)
    volume.store.close()
    shutil.rmtree(tmp_path / "store" / "db")
    assert fsck(tmp_path / "store", "--repair").exit_code == 0
    assert states(opened(tmp_path / "store")) == known
