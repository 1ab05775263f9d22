"""fsck: nothing to say of what is well, a sentence that names the file for what is not, and never a traceback."""

import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from heliosfs.base.errors import Corruption, HeliosError
from heliosfs.base.keys import ENTRY, EXTENT, INODE, LINK, ROOT_INO, SYMLINK, XATTR, key, link_suffix
from heliosfs.base.records import CHUNK, WRITTEN, decode_inode, encode_extent, encode_inode, entry
from heliosfs.layers import persistence
from heliosfs.layers.extents import END
from heliosfs.layers.layer import Layer
from heliosfs.merkle.node import NODE
from heliosfs.store.database import LAYERS, OPERATIONS, RECORDS
from heliosfs.store.journal import OFFSET_BITS, OFFSET_MASK
from heliosfs.store.packs import HEADER_BYTES
from heliosfs.store.store import Store
from heliosfs.view import acl
from heliosfs.view.view import View
from heliosfs.volume import fsck, operations
from heliosfs.volume.check_tree import TreeCheck
from heliosfs.volume.state_tree import StateTree
from heliosfs.volume.volume import Volume
from tests.volume import trees
from tests.volume.conftest import CALLER


@pytest.fixture
def volume() -> Iterator[Volume]:
    """An empty volume, in memory where that is possible."""
    with tempfile.TemporaryDirectory(prefix="heliosfs-fsck-", dir=trees.MEMORY) as directory:
        volume = Volume.open(Store.open(Path(directory) / "store"))
        yield volume
        volume.store.close()


def check(path: Path) -> fsck.Report:
    """What fsck says of the store in a directory; it must not be open for writing."""
    with closing(Store.open(path, create=False, read_only=True)) as store:
        return fsck.check(store)


def problems(path: Path) -> str:
    return "\n".join(check(path).problems)


def copied(path: Path) -> Path:
    """A copy of a store, beside it; the copy before is gone."""
    copy = path.parent / f"{path.name}-copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("reserve"))
    return copy


def random_bytes(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def populate(volume: Volume) -> None:
    """Some of everything: on the main branch, with states that are sealed, frozen and mutable, cut and not."""
    view = volume.main.view
    trees.put(view, b"dir/sub/big", random_bytes(1, 300_000))
    trees.put(view, b"dir/small", b"small")
    first = trees.put(view, b"dir/linked", b"x" * 5000)
    view.link(first, view.root, b"other name")
    trees.link(view, b"dir/symlink", b"../dir/small")
    view.set_xattr(first, b"user.one", b"1")
    sparse = trees.put(view, b"sparse", b"begin")
    view.write(sparse, 100_000, b"end")
    view.set_attributes(sparse, size=50_000)
    view.set_attributes(sparse, size=2_000_000)
    view.make(view.root, b"fifo", 0o010644, CALLER)
    volume.snapshot(volume.main, b"one", CALLER)
    volume.snapshot(volume.main, b"same", CALLER)
    trees.settle(volume)
    trees.remove(view, b"dir/small")
    trees.move(view, b"dir/sub", b"moved")
    view.write(view.resolve(b"moved/big"), 1000, b"changed" * 1000)
    view.set_attributes(view.resolve(b"dir/linked"), size=7)
    volume.snapshot(volume.main, b"two", CALLER)
    fork = volume.fork(volume.main.snapshots[b"one"], b"fork", CALLER)
    trees.remove(fork.view, b"dir")
    trees.put(fork.view, b"new", random_bytes(2, 70_000))
    volume.fork(fork, b"fork of fork", CALLER, empty=True)
    trees.put(view, b"late\n\xff/file", random_bytes(3, 40_000))


def leave(volume: Volume) -> Path:
    """Let a volume go as a kill does: nothing more is cut, sealed or flushed."""
    path = volume.store.path
    volume.store.close()
    volume.closed = True
    return path


def close(volume: Volume) -> Path:
    volume.close()
    return volume.store.path


def flip(file: Path, offset: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 0x10
    file.write_bytes(content)


@pytest.mark.parametrize("end", [close, leave])
@pytest.mark.parametrize("flushed", [False, True])
def test_a_clean_volume(volume: Volume, end: Callable[[Volume], Path], flushed: bool) -> None:
    populate(volume)
    if flushed:
        volume.flush()
    told: list[tuple[str, int, int]] = []
    path = end(volume)
    with closing(Store.open(path, create=False, read_only=True)) as store:
        report = fsck.check(store, lambda *what: told.append(what))
    assert report.problems == []
    assert report.objects >= 3
    assert report.files == 8
    assert {what for what, _, _ in told} == {"objects", "states"}
    assert all(0 <= done <= total for _, done, total in told)


@pytest.mark.parametrize("seed", range(12))
def test_no_false_alarm_after_random_steps(volume: Volume, seed: int) -> None:
    chance = random.Random(seed)
    steps = [(chance.choice(trees.KINDS), *(chance.randrange(1000) for _ in range(3))) for _ in range(60)]
    trees.take(volume, steps)  # type: ignore[arg-type]
    assert problems(leave(volume)) == ""


def test_a_merge_leaves_nothing_to_say(volume: Volume) -> None:
    populate(volume)
    fork = volume.fork(volume.main, b"side", CALLER)
    trees.put(fork.view, b"side/file", random_bytes(8, 100_000))
    trees.put(fork.view, b"late\n\xff/file", b"theirs")
    volume.merge(volume.main, fork, CALLER)
    assert problems(leave(volume)) == ""


def chunk_place(volume: Volume, path: bytes) -> tuple[Path, int]:
    """Where the first chunk of a file has its bytes."""
    view = volume.main.view
    inode = view.resolve(path)
    [extent, *_] = [
        each for each in StateTree(volume.engine.tree.nodes, view.top).inodes[inode.ino].extents.extents()  # type: ignore[union-attr]
        if each[2] == CHUNK
    ]  # fmt: skip
    location = {digest: where for digest, _, where in volume.engine.objects.iterate()}[extent[3]]  # type: ignore[index]
    [pack] = [file for file in (volume.store.path / "packs").iterdir() if file.stat().st_size >= location.end]
    return pack, location.offset + HEADER_BYTES + 10


def test_a_flipped_byte_in_a_chunk_names_the_file(volume: Volume) -> None:
    populate(volume)
    trees.settle(volume)
    place = chunk_place(volume, b"moved/big")
    path = close(volume)
    flip(*place)
    found = check(path).problems
    assert any("moved/big" in each and "the main branch" in each and "snapshot two" in each for each in found)
    assert any("dir/sub/big" in each and "snapshot one, snapshot same" in each for each in found)
    assert not any("linked" in each for each in found)
    assert len(found) == 2


def test_a_flipped_byte_in_a_node_names_what_is_in_it(volume: Volume) -> None:
    view = volume.main.view
    for number in range(600):
        trees.put(view, b"many/file-%03d" % number, b"content %d" % number)
    volume.snapshot(volume.main, b"s", CALLER)
    trees.settle(volume)
    nodes = list(volume.engine.tree.visit(volume.main.snapshots[b"s"].state.root or b""))
    assert any(node.level for _, node in nodes)
    places = {digest: where for digest, kind, where in volume.engine.objects.iterate() if kind == NODE}
    leaf = places[[digest for digest, node in nodes if node.level == 0][-1]]
    top = places[nodes[0][0]]
    path = close(volume)
    [pack] = (path / "packs").iterdir()
    flip(pack, leaf.offset + HEADER_BYTES + 3)
    [problem] = check(path).problems
    assert "the main branch, snapshot s: " in problem
    assert "many/file-590" in problem and "many/file-100 " not in problem
    flip(pack, top.offset + HEADER_BYTES + 3)
    assert "snapshot s: files that are not known: cannot be read whole: damaged object" in problems(path)


def test_a_flipped_byte_that_nobody_refers_to(volume: Volume) -> None:
    trees.put(volume.main.view, b"gone", random_bytes(4, 100_000))
    trees.settle(volume)
    place = chunk_place(volume, b"gone")
    trees.remove(volume.main.view, b"gone")
    path = close(volume)
    flip(*place)
    assert "no branch or snapshot was found to have this piece of content" in problems(path)


def test_a_flipped_byte_in_the_journal_names_the_file(volume: Volume) -> None:
    trees.put(volume.main.view, b"kept", random_bytes(6, 100_000))
    inode = trees.put(volume.main.view, b"dir/written", random_bytes(5, 100_000))
    extents = volume.main.view.top.deltas[inode.ino].extents
    assert extents is not None
    [(_, _, kind, position, _)] = extents.extents()
    assert kind == WRITTEN and isinstance(position, int)
    volume.flush()
    path = leave(volume)
    assert problems(path) == ""
    [segment] = [file for file in (path / "journal").iterdir() if int(file.stem, 16) == position >> OFFSET_BITS]
    flip(segment, (position & OFFSET_MASK) + 50_000)
    found = problems(path)
    assert found.startswith("the main branch: dir/written (inode") and "bytes 0 to 100000 cannot be read" in found
    assert "kept" not in found


def test_a_flipped_byte_at_the_end_of_the_journal(volume: Volume) -> None:
    volume.flush()
    trees.put(volume.main.view, b"file", random_bytes(5, 1000))
    path = leave(volume)
    [segment] = (path / "journal").iterdir()
    flip(segment, segment.stat().st_size - 1)
    assert "of the journal are no whole records" in problems(path)


def changed_inode(view: View, path: bytes, **fields: int) -> tuple[int, bytes]:
    inode = view.resolve(path)
    return inode.ino, encode_inode(decode_inode(inode.encode())._replace(**fields))


Tamper = Callable[[View], tuple[int, int, bytes, bytes | None]]
"""The record to put: (inode number, kind, suffix, value)."""


def with_inode(path: bytes, **fields: int) -> Tamper:
    def tamper(view: View) -> tuple[int, int, bytes, bytes | None]:
        ino, value = changed_inode(view, path, **fields)
        return ino, INODE, b"", value

    return tamper


def offset(number: int) -> bytes:
    return number.to_bytes(8, "big")


TAMPERED: list[tuple[str, Tamper]] = [
    ("linked .*its link count is 5, but it has 2 names", with_inode(b"dir/linked", nlink=5)),
    ("dir .*its link count is 9, but it has 0 subdirectories", with_inode(b"dir", nlink=9)),
    ("sparse .*it says 3 bytes are allocated, but 5 are", with_inode(b"sparse", allocated=3)),
    ("/file.*its size is 7, but it has content up to 40000", with_inode(b"late\n\xff/file", size=7)),
    ("fifo .*its mode 0 is of no type", with_inode(b"fifo", mode=0)),
    ("fifo .*negative", with_inode(b"fifo", uid=-1)),
    ("fifo.* says another type", with_inode(b"fifo", mode=0o020644)),
    ("fifo .*damaged inode record", lambda view: (view.resolve(b"fifo").ino, INODE, b"", b"rubbish")),
    ("symlink .*its size is 3, but its target has 12", with_inode(b"dir/symlink", size=3)),
    ("fifo .*it has a target", lambda view: (view.resolve(b"fifo").ino, SYMLINK, b"", b"t")),
    ("no link back", lambda view: (view.resolve(b"dir/linked").ino, LINK, link_suffix(ROOT_INO, b"other name"), None)),
    ("which does not have it", lambda view: (ROOT_INO, ENTRY, b"other name", None)),
    ("cannot be reached", lambda view: (ROOT_INO, ENTRY, b"moved", None)),
    ("which is missing", lambda view: (ROOT_INO, ENTRY, b"ghost", entry(15_000, 0o100644).to_bytes(5, "big"))),
    ("it is no directory, but has", lambda view: (
        view.resolve(b"fifo").ino, ENTRY, b"in", entry(view.resolve(b"sparse").ino, 0o100644).to_bytes(5, "big"))),
    ("a directory with 2 names", lambda view: (view.resolve(b"dir").ino, LINK, link_suffix(ROOT_INO, b"x"), b"")),
    ("fifo .*posix_acl_access cannot be read", lambda view: (view.resolve(b"fifo").ino, XATTR, acl.ACCESS, b"rubbish")),
    ("fifo .*its mode 644 does not agree", lambda view: (view.resolve(b"fifo").ino, XATTR, acl.ACCESS, acl.encode([
        acl.Entry(acl.USER_OBJ, 6), acl.Entry(acl.GROUP_OBJ, 4), acl.Entry(acl.MASK, 7), acl.Entry(acl.OTHER, 4)]))),
    ("never given out", lambda view: (77_777, INODE, b"", changed_inode(view, b"fifo")[1])),
    ("it has records, but no inode record", lambda view: (17_000, LINK, link_suffix(ROOT_INO, b"x"), b"")),
    ("sparse .*missing", lambda view: (
        view.resolve(b"sparse").ino, EXTENT, offset(0), encode_extent(0, 5, CHUNK, bytes(32), 0))),
    ("sparse .*5 bytes where 205 are needed", lambda view: (
        view.resolve(b"sparse").ino, EXTENT, offset(0), encode_extent(0, 5, 3, b"12345", 200))),
    ("sparse .*damaged journal record", lambda view: (
        view.resolve(b"sparse").ino, EXTENT, offset(0), encode_extent(0, 5, WRITTEN, 99 << OFFSET_BITS, 0))),
    ("fifo .*it has content, but is no file", lambda view: (
        view.resolve(b"fifo").ino, EXTENT, offset(0), encode_extent(0, 5, 3, b"12345", 0))),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "tamper"), TAMPERED)
def test_wrong_records_of_a_layer(volume: Volume, expected: str, tamper: Tamper) -> None:
    populate(volume)
    ino, kind, suffix, value = tamper(volume.main.view)
    volume.flush()
    batch = volume.store.database.batch()
    record = b"\0" if value is None else b"\1" + value
    batch.put(RECORDS, persistence.row_key(volume.main.view.top.id) + key(ino, kind, suffix), record)
    volume.store.database.write(batch)
    assert_found(leave(volume), expected)


def assert_found(path: Path, expected: str) -> None:
    found = problems(path)
    assert re.search(f"^the main branch.*{expected}", found, re.MULTILINE), found


def test_wrong_records_of_a_sealed_tree(volume: Volume) -> None:
    """As above; in one volume, whose top layer is empty and lies on the tree."""
    populate(volume)
    volume.snapshot(volume.main, b"last", CALLER)
    trees.settle(volume)
    below = volume.main.view.top.below
    assert below is not None and below.root is not None
    root, next_ino = below.root, volume.engine.next_ino
    for expected, tamper in TAMPERED:
        ino, kind, suffix, value = tamper(volume.main.view)
        steps = volume.engine.tree.edit(root, [(key(ino, kind, suffix), value)])
        while True:
            try:
                next(steps)
            except StopIteration as end:
                below.root, below.row_changed = end.value, True
                break
        tree = StateTree(volume.engine.tree.nodes, Layer(0, None, root))
        tree_check = TreeCheck(tree, next_ino, lambda extent: "gone" if 200 in extent or bytes(32) in extent else "")
        assert not list(tree_check.run())
        try:
            seen = not tree_check.still_holds(tree.advance(volume.engine.tree, root, below.root))
        except Corruption:
            seen = True
        assert seen, f"also found from what differs: {expected}"
        volume.flush()
        found = problems(copied(volume.store.path))
        if "journal record" in expected:
            expected = "sparse .*is of kind 1, which no tree holds"
        assert re.search(f"^the main branch, snapshot last: .*{expected}", found, re.MULTILINE), found
        below.root = root


def test_many_snapshots_are_read_where_they_differ(volume: Volume) -> None:
    view = volume.main.view
    for number in range(40):
        trees.put(view, b"d%d/f%d" % (number % 4, number), b"content")
    for number in range(10):
        volume.snapshot(volume.main, b"s%d" % number, CALLER)
        trees.put(view, b"d0/n%d" % number, b"new")
        trees.remove(view, b"d1/f%d" % (4 * number + 1))
        trees.move(view, b"d2/f%d" % (4 * number + 2), b"d3/moved%d" % number)
    path = close(volume)
    with closing(Store.open(path, create=False, read_only=True)) as store, pytest.MonkeyPatch.context() as patch:
        read: list[object] = []
        patch.setattr(fsck, "StateTree", lambda *given: read.append(given) or StateTree(*given))
        report = fsck.check(store)
    assert report.problems == [] and report.files == 50
    assert len(read) <= 3


def test_a_file_whose_end_is_hidden_is_well(volume: Volume) -> None:
    """A hole without end is not content."""
    view = volume.main.view
    inode = trees.put(view, b"file", random_bytes(1, 10_000))
    volume.snapshot(volume.main, b"s", CALLER)
    view.set_attributes(inode, size=100)
    extents = view.top.deltas[inode.ino].extents
    assert extents is not None and extents.extents()[-1][1] == END
    assert problems(leave(volume)) == ""


def test_the_operation_log(volume: Volume) -> None:
    populate(volume)
    first = volume.registry.log[0]
    path = close(volume)
    store = Store.open(path)
    batch = store.database.batch()
    batch.put(OPERATIONS, (1).to_bytes(8, "big"), operations.encode(msgspec.structs.replace(first, text="other")))
    batch.delete(OPERATIONS, (2).to_bytes(8, "big"))
    store.database.write(batch)
    store.close()
    found = problems(path)
    assert "operation 1 was changed after it was recorded" in found and "operation 2 is missing" in found
    store = Store.open(path)
    batch = store.database.batch()
    batch.delete(OPERATIONS, (1).to_bytes(8, "big"))
    store.database.write(batch)
    store.close()
    assert problems(path) == "", "old operations may have been trimmed"


def test_a_volume_that_cannot_be_opened_is_a_problem(volume: Volume) -> None:
    populate(volume)
    top = volume.main.view.top.id
    path = close(volume)
    store = Store.open(path)
    batch = store.database.batch()
    batch.delete(LAYERS, persistence.row_key(top))
    store.database.write(batch)
    store.close()
    report = check(path)
    assert "the volume cannot be opened" in report.problems[0] and report.objects


def test_what_is_no_volume_is_an_error(tmp_path: Path) -> None:
    Store.open(tmp_path / "store").close()
    with pytest.raises(HeliosError, match="empty"):
        check(tmp_path / "store")


@pytest.mark.parametrize("end", [close, leave])
def test_random_flips(volume: Volume, end: Callable[[Volume], Path]) -> None:
    """Whatever the damage: problems, an error for people, or nothing."""
    populate(volume)
    volume.flush()
    original = end(volume)
    (original / "reserve").unlink()
    files = sorted(file.relative_to(original) for file in original.rglob("*") if file.is_file())
    chance = random.Random(9)
    told = 0
    for number in range(max(24, len(files))):
        copy = copied(original)
        file = copy / files[number % len(files)]
        content = bytearray(file.read_bytes())
        for _ in range(3):
            if content:
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
        try:
            told += bool(check(copy).problems)
        except HeliosError:
            told += 1
    assert told
