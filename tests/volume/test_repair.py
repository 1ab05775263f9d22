"""What is damaged comes back from a copy, from files of the same content, or when it is written again."""

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from heliosfs.base.errors import Corruption
from heliosfs.cli.fsck import command
from heliosfs.store.database import INDEX, Batch
from heliosfs.store.packs import HEADER_BYTES, Location
from heliosfs.store.store import Store
from heliosfs.volume.volume import Volume
from tests.volume import trees
from tests.volume.conftest import CALLER

DATA = random.Random(1).randbytes(300_000)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A closed store with a file in two snapshots, many small ones, and an older version of the first."""
    volume = Volume.open(Store.open(tmp_path / "store"))
    view = volume.main.view
    trees.put(view, b"dir/big", b"older" * 20_000)
    volume.snapshot(volume.main, b"older", CALLER)
    trees.put(view, b"dir/big", DATA)
    for number in range(700):
        trees.put(view, b"many/%03d" % number, b"small %d" % number)
    volume.snapshot(volume.main, b"one", CALLER)
    trees.settle(volume)
    trees.put(view, b"another", b"another")
    volume.snapshot(volume.main, b"two", CALLER)
    volume.close()
    yield tmp_path / "store"


def fsck(path: Path, *options: str) -> Result:
    return CliRunner().invoke(command, [str(path), *options], catch_exceptions=False)


def opened(path: Path) -> Volume:
    return Volume.open(Store.open(path, create=False))


def places(path: Path) -> dict[bytes, Location]:
    with closing(Store.open(path, create=False)) as store:
        return {digest: where for digest, _, where in store.objects.iterate()}


def chunks_of(path: Path) -> list[bytes]:
    """The objects that the big file consists of, and nothing else does."""
    with closing(Store.open(path, create=False)) as store:
        return [digest for digest, _, _ in store.objects.iterate() if store.objects.get(digest) in DATA]


def spoil(path: Path, *digests: bytes) -> None:
    found = places(path)
    for digest in digests:
        place = found[digest]
        with (path / "packs" / f"{place.pack:010d}").open("r+b") as file:
            file.seek(place.offset + HEADER_BYTES + 5)
            file.write(b"\xff\x00\xff\x00\xff")


def change_index(path: Path, change: object, *digests: bytes) -> None:
    with closing(Store.open(path, create=False)) as store:
        batch: Batch = store.database.batch()
        for digest in digests:
            if isinstance(change, bytes):
                batch.put(INDEX, digest, change)
            else:
                batch.delete(INDEX, digest)
        store.database.write(batch)
        store.database.sync()


def read(path: Path, state: str = "", name: bytes = b"dir/big") -> bytes:
    volume = opened(path)
    try:
        view = volume.view_of(volume.main.snapshots[state.encode()]) if state else volume.main.view
        inode = view.resolve(name)
        return bytes(view.read(inode, 0, inode.size))
    finally:
        volume.store.close()


@pytest.mark.parametrize("entry", [None, b"", b"short"])
def test_what_the_index_lost_is_found_in_the_packs(path: Path, entry: bytes | None) -> None:
    change_index(path, entry, *places(path))
    first = fsck(path)
    assert first.exit_code == 1 and "damaged object" in first.output
    repaired = fsck(path, "--repair")
    assert repaired.exit_code == 0, repaired.output
    assert "damaged objects were brought back" in repaired.output and "no problems" in repaired.output
    assert read(path) == read(path, "one") == DATA
    assert read(path, "older") == b"older" * 20_000


def test_a_collection_leaves_the_packs_alone_while_an_entry_cannot_be_read(path: Path) -> None:
    change_index(path, b"short", *chunks_of(path))
    volume = opened(path)
    with pytest.raises(Corruption, match="its entry in the index"):
        volume.collect_blocking(step=lambda report: None)
    volume.store.close()
    assert fsck(path, "--repair").exit_code == 0
    assert read(path) == DATA


def test_files_of_the_same_content_bring_it_back(path: Path, tmp_path: Path) -> None:
    spoil(path, *chunks_of(path))
    found = fsck(path)
    assert "dir/big" in found.output and "the main branch, snapshot two" in found.output
    assert "dir/big (inode 17) can be read in: snapshot older" in found.output, found.output
    assert "--repair brings back what can be" in found.stderr
    useless = fsck(path, "--repair")
    assert useless.exit_code == 1 and "cannot be brought back from this store" in useless.stderr
    backup = tmp_path / "backup" / "somewhere"
    backup.mkdir(parents=True)
    (backup / "under another name").write_bytes(DATA)
    (backup / "dangling").symlink_to("nowhere")
    repaired = fsck(path, "--repair", "--from", str(tmp_path / "backup"))
    assert repaired.exit_code == 0, repaired.output
    assert read(path) == read(path, "one") == DATA


def test_the_same_content_written_again_heals_all_that_have_it(path: Path) -> None:
    spoil(path, *chunks_of(path))
    assert fsck(path, "--repair").exit_code == 1
    volume = opened(path)
    trees.put(volume.main.view, b"new name", DATA)
    volume.close()
    assert fsck(path).exit_code == 0
    assert read(path, "one") == read(path) == DATA


def test_without_a_repair_and_unread_it_heals_as_well(path: Path) -> None:
    spoil(path, *chunks_of(path))
    volume = opened(path)
    trees.put(volume.main.view, b"new name", DATA)
    volume.close()
    assert fsck(path).exit_code == 0
    assert read(path, "one") == read(path) == DATA


def test_without_a_repair_a_failed_read_is_enough(path: Path) -> None:
    spoil(path, *chunks_of(path))
    volume = opened(path)
    for _ in chunks_of_file(volume):
        pass
    trees.put(volume.main.view, b"new name", DATA)
    volume.close()
    assert fsck(path).exit_code == 0


def chunks_of_file(volume: Volume) -> Iterator[None]:
    """Read every part of the big file, though none of it can be."""
    view = volume.main.view
    inode = view.resolve(b"dir/big")
    for offset in range(0, inode.size, 4096):
        with pytest.raises(Corruption):
            view.read(inode, offset, 1)
        yield


def test_from_is_for_repairs(path: Path) -> None:
    assert fsck(path, "--from", str(path)).exit_code == 2


def test_json(path: Path) -> None:
    import json

    spoil(path, chunks_of(path)[0])
    found = json.loads(fsck(path, "--json").stdout)
    assert found["problems"] and found["elsewhere"] and found["repaired_objects"] == 0
