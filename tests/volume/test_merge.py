"""Merging branches: the algebra of it, every kind of conflict, and that it happens whole or not at all."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from stat import S_IFIFO, S_IMODE

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosfs.base.errors import Refusal
from heliosfs.base.keys import ROOT_INO
from heliosfs.layers import stack
from heliosfs.store.store import Store
from heliosfs.view import acl
from heliosfs.view.view import View
from heliosfs.volume import merge as module
from heliosfs.volume.ancestry import EARLIER_MERGES_MAX
from heliosfs.volume.branch import Branch
from heliosfs.volume.conflicts import place
from heliosfs.volume.merge import Report
from heliosfs.volume.reader import Reader
from heliosfs.volume.volume import Volume
from tests.store.support import copy_live
from tests.volume.trees import CALLER, PICK, Shown, directory, link, move, new_volume, put, remove, settle, shown

EXAMPLES = int(os.environ.get("HELIOSFS_TEST_EXAMPLES", "0"))
SETTINGS = settings(max_examples=EXAMPLES or 20, deadline=None, derandomize=not EXAMPLES, database=None)

TEXT = b"".join(b"line %d\n" % number for number in range(20))


class Pair:
    """The main branch and a child of it, forked when both are the same."""

    def __init__(self, volume: Volume, prepare: Callable[[View], object] = lambda view: None) -> None:
        self.volume = volume
        self.main = volume.main
        prepare(self.main.view)
        self.child = volume.fork(self.main, b"child", CALLER)

    @property
    def ours(self) -> View:
        return self.main.view

    @property
    def theirs(self) -> View:
        return self.child.view

    def merge(self, target: Branch | None = None, source: Branch | None = None, **options: object) -> Report:
        target, source = target or self.main, source or self.child
        before = shown(source.view)
        report = self.volume.merge(target, source, CALLER, **options)  # type: ignore[arg-type]
        assert shown(source.view) == before
        for view in (target.view, source.view):
            check_invariants(view)
        return report

    def kinds(self) -> list[tuple[str, bytes | None, bytes | None, bytes | None]]:
        """The open conflicts."""
        return [(each.kind, each.ours, each.base, each.theirs) for each in self.volume.conflicts(self.main)]

    def resolve(self, path: bytes, how: str) -> None:
        self.volume.resolve(self.main, path, how, CALLER)
        check_invariants(self.ours)


@pytest.fixture
def fresh() -> Iterator[Volume]:
    with new_volume() as volume:
        yield volume


def check_invariants(view: View) -> None:
    """Every ENTRY has its LINK and the other way round, link counts are right, and memory says the same."""
    reader = Reader(view.engine, view.top)
    links: dict[int, set[tuple[int, bytes]]] = {}
    pending = [ROOT_INO]
    while pending:
        above = pending.pop()
        children = reader.entries(above)
        subdirectories = 0
        for name, ino in children.items():
            links.setdefault(ino, set()).add((above, name))
            if view.inode(ino).is_directory:
                subdirectories += 1
                pending.append(ino)
        assert reader.existing(above).nlink == 2 + subdirectories
        assert view.inode(above).nlink == 2 + subdirectories
    for ino, names in links.items():
        assert set(reader.names(ino)) == names
        inode, record = view.inode(ino), reader.existing(ino)
        assert inode.orphan is None
        assert inode.encode() == stack.find_inode(view.engine.tree, view.top, ino)
        if inode.is_file:
            assert inode.nlink == len(names)
            held = sum(high - low for low, high in view.data_ranges(inode))
            assert record.allocated == held
        assert len(view.paths(ino)) == len(names)
    for layer in view.engine.orphans:
        assert layer.below is not None


def contents(view: View) -> dict[bytes, bytes]:
    """Path to content of every file."""
    return {path: file.content for path, file in shown(view).items() if view.resolve(path).is_file}


def meaning(view: View) -> dict[bytes, Shown]:
    """The same as `shown`, whatever the inode numbers are."""
    return {path: file._replace(ino=0) for path, file in shown(view).items()}


def read(view: View, path: bytes) -> bytes:
    inode = view.resolve(path)
    return bytes(view.read(inode, 0, inode.size))


def save(view: View, path: bytes, data: bytes) -> None:
    """As most editors do: a new file takes the place of the old one."""
    put(view, path + b".new", data)
    move(view, path + b".new", path)


def exists(view: View, path: bytes) -> bool:
    try:
        view.resolve(path)
    except Refusal:
        return False
    return True


# The algebra

Step = tuple[str, int, int, int]
KINDS = ("put", "put", "save", "remove", "rename", "rename", "link", "mkdir", "chmod", "chown", "xattr", "settle")
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.sampled_from(KINDS), PICK, PICK, PICK), min_size=1, max_size=12
)
VARIANTS = [
    b"", TEXT, TEXT.replace(b"line 3\n", b"third\n"), TEXT.replace(b"line 15\n", b"15\n15\n"), b"\0binary", b"x\n",
]  # fmt: skip


def take(volume: Volume, view: View, steps: list[Step], below: bytes = b"") -> None:
    """Carry out steps on a view; what is not possible is left out. With `below` all happens in that directory."""
    for kind, first, second, third in steps:
        paths = sorted(path for path in shown(view) if path.startswith(below) and path + b"/" != below and path != b".")
        directories = [below, *(path + b"/" for path in paths if view.resolve(path).is_directory)]
        new = directories[second % len(directories)] + (b"a", b"b", b"c")[third % 3]
        old = paths[first % len(paths)] if paths else new
        try:
            step(volume, view, kind if paths else "put", old, new, first + second + third)
        except Refusal:
            pass


def step(volume: Volume, view: View, kind: str, old: bytes, new: bytes, number: int) -> None:
    data = VARIANTS[number % len(VARIANTS)]
    above, _, name = new.rpartition(b"/")
    if kind == "put":
        if not exists(view, new) or view.resolve(new).is_file:
            put(view, new, data)
    elif kind == "save":
        if view.resolve(old).is_file:
            save(view, old, data)
    elif kind == "remove":
        remove(view, old)
    elif kind == "rename":
        move(view, old, new)
    elif kind == "link":
        view.link(view.resolve(old), view.resolve(above), name)
    elif kind == "mkdir":
        directory(view, new)
    elif kind == "chmod":
        view.set_attributes(view.resolve(old), mode=(0o600, 0o755)[number % 2])
    elif kind == "chown":
        view.set_attributes(view.resolve(old), uid=1000 + number % 3)
    elif kind == "xattr":
        view.set_xattr(view.resolve(old), b"user.x%d" % (number % 2), b"%d" % (number % 3))
    elif kind == "settle":
        settle(volume)


def prepare(view: View) -> None:
    for path in (b"a", b"b/a", b"b/b", b"c/a/a", b"c/b"):
        put(view, path, TEXT + path)


@SETTINGS
@given(first=STEPS, second=STEPS)
def test_whatever_was_done_a_merge_keeps_the_tree_whole(first: list[Step], second: list[Step]) -> None:
    with new_volume() as volume:
        pair = Pair(volume, prepare)
        take(volume, pair.ours, first)
        take(volume, pair.theirs, second)
        before = shown(pair.ours)
        dry = pair.merge(dry_run=True)
        assert shown(pair.ours) == before
        report = pair.merge()
        assert [each[:3] for each in report.changes] == [each[:3] for each in dry.changes]
        assert report.conflicts == dry.conflicts == volume.conflicts(pair.main)
        merged = shown(pair.ours)
        settle(volume)
        check_invariants(pair.ours)
        assert shown(pair.ours) == merged
        if report.number:
            volume.undo(pair.main, CALLER)
            check_invariants(pair.ours)
            assert shown(pair.ours) == before
            assert not volume.conflicts(pair.main)
            volume.undo(pair.main, CALLER)
            assert shown(pair.ours) == merged
            assert volume.conflicts(pair.main) == report.conflicts
        for conflict in volume.conflicts(pair.main):
            for path, state in ((conflict.base, ".base"), (conflict.theirs, ".theirs")):
                if path is not None:
                    volume.view_of(pair.main.snapshots[b".merge-%d%b" % (report.number, state.encode())]).resolve(path)


@SETTINGS
@given(first=STEPS, second=STEPS)
def test_merging_twice_equals_once(first: list[Step], second: list[Step]) -> None:
    with new_volume() as volume:
        pair = Pair(volume, prepare)
        take(volume, pair.ours, first)
        take(volume, pair.theirs, second)
        pair.merge(strategy="ours")
        merged = shown(pair.ours)
        again = pair.merge()
        assert not again.number and not again.changes
        assert shown(pair.ours) == merged


@SETTINGS
@given(steps=STEPS)
def test_merging_into_what_was_not_changed_gives_theirs(steps: list[Step]) -> None:
    with new_volume() as volume:
        pair = Pair(volume, prepare)
        take(volume, pair.theirs, steps)
        assert not pair.merge().conflicts
        assert meaning(pair.ours) == meaning(pair.theirs)


@SETTINGS
@given(steps=STEPS)
def test_merging_nothing_changes_nothing(steps: list[Step]) -> None:
    with new_volume() as volume:
        pair = Pair(volume, prepare)
        take(volume, pair.ours, steps)
        before, log = shown(pair.ours), len(volume.log())
        report = pair.merge()
        assert not report.number and not report.changes and not report.conflicts
        assert shown(pair.ours) == before
        assert len(volume.log()) == log


@SETTINGS
@given(first=STEPS, second=STEPS)
def test_disjoint_changes_commute(first: list[Step], second: list[Step]) -> None:
    """Two children change a directory each. Whichever is merged first, both are there."""
    found = []
    for order in ((0, 1), (1, 0)):
        with new_volume() as volume:
            for path in (b"left", b"right"):
                put(volume.main.view, path + b"/a", TEXT)
                put(volume.main.view, path + b"/b/a", TEXT)
            children = [volume.fork(volume.main, name, CALLER) for name in (b"one", b"two")]
            take(volume, children[0].view, first, b"left/")
            take(volume, children[1].view, second, b"right/")
            wanted = {
                path: file
                for child, below in zip(children, (b"left", b"right"), strict=True)
                for path, file in meaning(child.view).items()
                if path.startswith(below)
            }
            for index in order:
                assert not volume.merge(volume.main, children[index], CALLER).conflicts
            check_invariants(volume.main.view)
            found.append(meaning(volume.main.view))
            assert {path: file for path, file in found[-1].items() if path != b"."} == wanted
    assert found[0] == found[1]


@SETTINGS
@given(first=STEPS, second=STEPS)
def test_by_way_of_the_child_is_the_same(first: list[Step], second: list[Step]) -> None:
    """Merging the parent into the child and that back gives what merging the child gives."""
    found = []
    for by_way in (False, True):
        with new_volume() as volume:
            pair = Pair(volume, prepare)
            take(volume, pair.ours, first)
            take(volume, pair.theirs, second)
            if pair.merge(dry_run=True).conflicts or pair.merge(pair.child, pair.main, dry_run=True).conflicts:
                return
            if by_way:
                pair.merge(pair.child, pair.main)
            assert not pair.merge().conflicts
            if by_way:
                assert meaning(pair.ours) == meaning(pair.theirs)
            found.append(meaning(pair.ours))
    assert found[0] == found[1]


@SETTINGS
@given(first=STEPS, second=STEPS)
def test_their_strategy_leaves_no_conflict_and_resolving_the_same(first: list[Step], second: list[Step]) -> None:
    with new_volume() as volume:
        pair = Pair(volume, prepare)
        take(volume, pair.ours, first)
        take(volume, pair.theirs, second)
        report = pair.merge(strategy="theirs", dry_run=True)
        for conflict in pair.merge().conflicts:
            path = conflict.ours or conflict.theirs
            assert path is not None
            try:
                pair.resolve(path, "theirs")
            except Refusal as refusal:
                # Either it was settled together with another one at this path, or it cannot be put there.
                assert refusal.errno in (errno.ENOENT, errno.EINVAL, errno.ENOTDIR)
                if refusal.errno != errno.ENOENT:
                    assert report.conflicts
                    pair.resolve(path, "ours")
        assert not volume.conflicts(pair.main)
        assert not [name for name in pair.main.snapshots if name.startswith(b".merge-")]


# Both survive


def pair_of(volume: Volume, *paths: bytes) -> Pair:
    return Pair(volume, lambda view: [put(view, path, TEXT) for path in paths])


def edited(line: int, data: bytes = TEXT) -> bytes:
    return data.replace(b"line %d\n" % line, b"changed %d\n" % line)


@pytest.mark.parametrize("how", [put, save])
def test_a_rename_and_an_edit_both_survive(fresh: Volume, how: Callable[[View, bytes, bytes], object]) -> None:
    pair = pair_of(fresh, b"here/file", b"other")
    move(pair.ours, b"here/file", b"there/renamed")
    how(pair.theirs, b"here/file", edited(3))
    how(pair.ours, b"other", edited(4))
    move(pair.theirs, b"other", b"moved")
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {b"there/renamed": edited(3), b"moved": edited(4)}


def test_what_is_done_in_a_renamed_directory_follows_it(fresh: Volume) -> None:
    pair = pair_of(fresh, b"src/a", b"src/b", b"src/c", b"lib/d")
    move(pair.ours, b"src", b"source")
    move(pair.theirs, b"lib", b"library")
    put(pair.theirs, b"src/new", b"new")
    put(pair.theirs, b"src/a", edited(1))
    remove(pair.theirs, b"src/b")
    move(pair.theirs, b"src/c", b"src/deep/c")
    put(pair.ours, b"lib/new", b"ours")
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {
        b"source/a": edited(1), b"source/new": b"new", b"source/deep/c": TEXT,
        b"library/d": TEXT, b"library/new": b"ours",
    }  # fmt: skip


def test_a_file_saved_by_replacing_it_is_edited(fresh: Volume) -> None:
    pair = pair_of(fresh, b"f", b"g")
    save(pair.ours, b"f", edited(2))
    save(pair.theirs, b"f", edited(17))
    save(pair.theirs, b"g", edited(5))
    new = pair.theirs.resolve(b"g").ino
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {b"f": edited(17, edited(2)), b"g": edited(5)}
    assert pair.ours.resolve(b"g").ino == new


def test_a_file_saved_with_a_backup_that_is_changed_as_well(fresh: Volume) -> None:
    pair = pair_of(fresh, b"f", b"g", b"h")
    for name in (b"f", b"g", b"h"):
        move(pair.theirs, name, name + b"~")
        pair.theirs.link(pair.theirs.resolve(name + b"~"), pair.theirs.root, name + b"~2")
        put(pair.theirs, name, TEXT if name == b"f" else edited(3))
        put(pair.theirs, name + b"~", b"backup")
    put(pair.ours, b"h", edited(12))
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {**contents(pair.theirs), b"h": edited(12, edited(3))}
    for name in (b"f~", b"g~", b"h~"):
        assert pair.ours.resolve(name).ino == pair.ours.resolve(name + b"2").ino


def test_a_directory_copied_back_in_its_place_is_the_old_one(fresh: Volume) -> None:
    pair = pair_of(fresh, b"d/a", b"d/b")
    remove(pair.theirs, b"d")
    put(pair.theirs, b"d/a", edited(3))
    put(pair.theirs, b"d/b", TEXT)
    put(pair.ours, b"d/a", edited(12))
    put(pair.ours, b"d/c", b"c")
    kept = pair.ours.resolve(b"d").ino
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {b"d/a": edited(12, edited(3)), b"d/b": TEXT, b"d/c": b"c"}
    assert pair.ours.resolve(b"d").ino == kept


def test_attributes_are_merged_one_by_one(fresh: Volume) -> None:
    pair = pair_of(fresh, b"f")
    ours, theirs = pair.ours.resolve(b"f"), pair.theirs.resolve(b"f")
    pair.ours.set_attributes(ours, mode=0o600)
    pair.ours.set_xattr(ours, b"user.ours", b"1")
    pair.theirs.set_attributes(theirs, uid=1001)
    pair.theirs.set_xattr(theirs, b"user.theirs", b"2")
    pair.theirs.write(theirs, 0, b"LINE")
    assert not pair.merge().conflicts
    file = pair.ours.resolve(b"f")
    assert (S_IMODE(file.mode), file.uid) == (0o600, 1001)
    assert pair.ours.list_xattrs(file) == [b"user.ours", b"user.theirs"]
    assert read(pair.ours, b"f") == b"LINE" + TEXT[4:]


@pytest.mark.parametrize("ours_has_the_list", [False, True])
def test_a_mode_and_an_access_control_list_are_merged_into_what_agrees(fresh: Volume, ours_has_the_list: bool) -> None:
    pair = pair_of(fresh, b"f")
    views = (pair.ours, pair.theirs) if ours_has_the_list else (pair.theirs, pair.ours)
    of_class = [acl.Entry(acl.USER_OBJ, 6), acl.Entry(acl.USER, 6, 1000), acl.Entry(acl.GROUP_OBJ, 4)]
    views[0].set_xattr(
        views[0].resolve(b"f"), acl.ACCESS, acl.encode([*of_class, acl.Entry(acl.MASK, 4), acl.Entry(acl.OTHER, 4)])
    )
    views[1].set_attributes(views[1].resolve(b"f"), mode=0o600)
    assert not pair.merge().conflicts
    file = pair.ours.resolve(b"f")
    assert S_IMODE(file.mode) == 0o600
    assert pair.ours.acl(file, acl.ACCESS) == [*of_class, acl.Entry(acl.MASK, 0), acl.Entry(acl.OTHER, 0)]


def test_hard_links_stay_links(fresh: Volume) -> None:
    def prepare(view: View) -> None:
        put(view, b"a", TEXT)
        put(view, b"other", TEXT)
        view.link(view.resolve(b"a"), view.root, b"b")

    pair = Pair(fresh, prepare)
    put(pair.theirs, b"a", edited(3))
    pair.theirs.link(pair.theirs.resolve(b"a"), pair.theirs.root, b"c")
    new = put(pair.theirs, b"new", b"new")
    pair.theirs.link(new, pair.theirs.root, b"new2")
    save(pair.theirs, b"other", edited(8))
    pair.theirs.link(pair.theirs.resolve(b"other"), pair.theirs.root, b"other2")
    save(pair.ours, b"other", edited(2))
    put(pair.ours, b"b", edited(11))
    assert not pair.merge().conflicts
    assert {pair.ours.resolve(name).ino for name in (b"a", b"b", b"c")} == {pair.ours.resolve(b"a").ino}
    assert read(pair.ours, b"c") == edited(11, edited(3))
    assert pair.ours.resolve(b"new").ino == pair.ours.resolve(b"new2").ino == new.ino
    assert pair.ours.resolve(b"other").ino == pair.ours.resolve(b"other2").ino
    assert read(pair.ours, b"other2") == edited(8, edited(2))


def test_replacing_one_of_two_names_leaves_the_other_alone(fresh: Volume) -> None:
    def prepare(view: View) -> None:
        put(view, b"a", TEXT)
        view.link(view.resolve(b"a"), view.root, b"b")

    pair = Pair(fresh, prepare)
    save(pair.theirs, b"a", edited(3))
    put(pair.ours, b"b", edited(12))
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {b"a": edited(12, edited(3)), b"b": edited(12)}


@pytest.mark.parametrize("saved_by_us", [True, False])
def test_a_new_link_to_what_the_other_side_replaced(fresh: Volume, saved_by_us: bool) -> None:
    pair = pair_of(fresh, b"f")
    one, other = (pair.ours, pair.theirs) if saved_by_us else (pair.theirs, pair.ours)
    save(one, b"f", edited(3))
    other.link(other.resolve(b"f"), other.root, b"link")
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {b"f": edited(3), b"link": TEXT}


def test_names_that_change_places(fresh: Volume) -> None:
    pair = pair_of(fresh, b"a", b"b", b"d/x", b"e/f/y")
    put(pair.ours, b"a", edited(1))
    put(pair.ours, b"b", edited(2))
    for old, new in ((b"a", b"t"), (b"b", b"a"), (b"t", b"b"), (b"e/f", b"f"), (b"e", b"f/e")):
        move(pair.theirs, old, new)
    remove(pair.theirs, b"d")
    move(pair.theirs, b"f/y", b"d")
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {b"a": edited(2), b"b": edited(1), b"d": TEXT}
    assert exists(pair.ours, b"f/e")


def test_content_is_not_copied_and_lasts(fresh: Volume) -> None:
    """Written, cut and sealed content: what the journal refers to must be there after a kill."""
    data = {name: os.urandom(300_000) for name in (b"written", b"cut", b"flushed")}
    pair = pair_of(fresh, b"changed")
    put(pair.theirs, b"flushed", data[b"flushed"])
    settle(fresh)
    cut = put(pair.theirs, b"cut", data[b"cut"])
    fresh.engine.closed.append((pair.theirs.top, cut.ino))
    fresh.step()
    put(pair.theirs, b"written", data[b"written"])
    written = pair.theirs.resolve(b"changed")
    pair.theirs.write(written, len(TEXT) + 5000, data[b"cut"][:70_000])
    before = fresh.engine.journal.size()
    assert not pair.merge().conflicts
    assert fresh.engine.journal.size() - before < 500_000
    data[b"changed"] = TEXT + bytes(5000) + data[b"cut"][:70_000]
    assert contents(pair.ours) == data
    copy = Path(fresh.store.path).with_name("copy")
    copy_live(fresh.store.path, copy)
    try:
        again = Volume.open(Store.open(copy))
        assert contents(again.main.view) == data
        check_invariants(again.main.view)
        settle(again)
        again.drop_branch(again.main, b"child", CALLER)
        for _ in again.collect():
            pass
        again.flush()
        assert contents(again.main.view) == data
        again.store.close()
    finally:
        shutil.rmtree(copy)


def test_what_has_no_content(fresh: Volume) -> None:
    pair = pair_of(fresh, b"f")
    link(pair.theirs, b"link", b"f")
    pair.theirs.make(pair.theirs.root, b"fifo", S_IFIFO | 0o600, CALLER)
    directory(pair.theirs, b"empty/dir")
    pair.theirs.set_attributes(pair.theirs.resolve(b"f"), size=5 << 20)
    assert not pair.merge().conflicts
    assert meaning(pair.ours).keys() == meaning(pair.theirs).keys()
    assert pair.ours.readlink(pair.ours.resolve(b"link")) == b"f"
    assert pair.ours.resolve(b"f").size == 5 << 20
    remove(pair.theirs, b"link")
    link(pair.theirs, b"link", b"elsewhere")
    assert not pair.merge().conflicts
    assert pair.ours.readlink(pair.ours.resolve(b"link")) == b"elsewhere"


@pytest.mark.parametrize("how", [put, save])
def test_what_they_added_meets_what_they_changed(fresh: Volume, how: Callable[[View, bytes, bytes], object]) -> None:
    """Ours was moved to where they put something: what is there has their changes by then."""
    pair = pair_of(fresh, b"f")
    move(pair.ours, b"f", b"g")
    how(pair.theirs, b"f", edited(3))
    put(pair.theirs, b"g", TEXT)
    pair.merge()
    assert pair.kinds() == [("both added", b"g", None, b"g")]
    assert contents(pair.ours) == {b"g": edited(3)}


def test_equal_changes_do_not_conflict(fresh: Volume) -> None:
    pair = pair_of(fresh, b"edited", b"saved", b"deleted", b"renamed", b"mode")
    for view in (pair.ours, pair.theirs):
        put(view, b"edited", edited(3))
        save(view, b"saved", edited(4))
        remove(view, b"deleted")
        move(view, b"renamed", b"name")
        view.set_attributes(view.resolve(b"mode"), mode=0o700)
        put(view, b"added", b"new")
        put(view, b"dir/added", b"new")
    put(pair.theirs, b"dir/more", b"more")
    before = meaning(pair.ours)
    report = pair.merge()
    assert not report.conflicts
    assert [(each.kind, each.path) for each in report.changes] == [("A", b"dir/more")]
    del (after := meaning(pair.ours))[b"dir/more"]
    assert after == before


# Conflicts


def conflict_content(pair: Pair) -> None:
    put(pair.ours, b"f", edited(3) + b"ours\n")
    put(pair.theirs, b"f", edited(3) + b"theirs\n")


def conflict_saved(pair: Pair) -> None:
    save(pair.ours, b"f", TEXT + b"ours\n")
    save(pair.theirs, b"f", TEXT + b"theirs\n")


def conflict_binary(pair: Pair) -> None:
    put(pair.ours, b"f", b"\0" + edited(3))
    put(pair.theirs, b"f", edited(15))


def conflict_mode(pair: Pair) -> None:
    pair.ours.set_attributes(pair.ours.resolve(b"f"), mode=0o600)
    pair.theirs.set_attributes(pair.theirs.resolve(b"f"), mode=0o755)


def conflict_xattr(pair: Pair) -> None:
    pair.ours.set_xattr(pair.ours.resolve(b"d"), b"user.x", b"1")
    pair.theirs.set_xattr(pair.theirs.resolve(b"d"), b"user.x", b"2")


def conflict_root(pair: Pair) -> None:
    pair.ours.set_attributes(pair.ours.root, mode=0o700)
    pair.theirs.set_attributes(pair.theirs.root, mode=0o711)


def conflict_type(pair: Pair) -> None:
    put(pair.ours, b"f", edited(3))
    remove(pair.theirs, b"f")
    link(pair.theirs, b"f", b"d/g")


def conflict_added(pair: Pair) -> None:
    put(pair.ours, b"new", b"ours")
    put(pair.theirs, b"new", b"theirs")


def conflict_added_types(pair: Pair) -> None:
    put(pair.ours, b"new", b"ours")
    put(pair.theirs, b"new/in", b"theirs")


def conflict_deleted_by_them(pair: Pair) -> None:
    put(pair.ours, b"f", edited(3))
    remove(pair.theirs, b"f")


def conflict_renamed_and_deleted(pair: Pair) -> None:
    move(pair.ours, b"d", b"e")
    remove(pair.theirs, b"d")


def conflict_deleted_by_us(pair: Pair) -> None:
    remove(pair.ours, b"d")
    put(pair.theirs, b"d/g", edited(3))


def conflict_deleted_and_renamed(pair: Pair) -> None:
    remove(pair.ours, b"d")
    move(pair.theirs, b"d", b"e")


def conflict_added_inside_by_us(pair: Pair) -> None:
    put(pair.ours, b"d/sub/new", b"ours")
    remove(pair.theirs, b"d")


def conflict_added_inside_by_them(pair: Pair) -> None:
    remove(pair.ours, b"d")
    put(pair.theirs, b"d/sub/new", b"theirs")


def conflict_renames(pair: Pair) -> None:
    move(pair.ours, b"f", b"ours")
    move(pair.theirs, b"f", b"x/theirs")


def conflict_occupied(pair: Pair) -> None:
    put(pair.ours, b"x", b"ours")
    move(pair.theirs, b"f", b"x")


def conflict_circle(pair: Pair) -> None:
    move(pair.ours, b"d", b"c/d")
    move(pair.theirs, b"c", b"d/c")


def conflict_edit_in_deleted(pair: Pair) -> None:
    put(pair.ours, b"d/g", edited(3))
    remove(pair.theirs, b"d")


CONFLICTS: list[tuple[Callable[[Pair], None], list[tuple[str, bytes | None, bytes | None, bytes | None]]]] = [
    (conflict_content, [("content", b"f", b"f", b"f")]),
    (conflict_saved, [("content", b"f", b"f", b"f")]),
    (conflict_binary, [("content", b"f", b"f", b"f")]),
    (conflict_mode, [("attributes", b"f", b"f", b"f")]),
    (conflict_xattr, [("attributes", b"d", b"d", b"d")]),
    (conflict_root, [("attributes", b".", b".", b".")]),
    (conflict_type, [("type", b"f", b"f", b"f")]),
    (conflict_added, [("both added", b"new", None, b"new")]),
    (conflict_added_types, [("both added", b"new", None, b"new")]),
    (conflict_deleted_by_them, [("deleted by them", b"f", b"f", None)]),
    (conflict_renamed_and_deleted, [("deleted by them", b"e", b"d", None)]),
    (conflict_deleted_by_us, [("deleted by us", None, b"d/g", b"d/g")]),
    (conflict_deleted_and_renamed, [("deleted by us", None, b"d", b"e")]),
    (conflict_added_inside_by_us, [("deleted by them", b"d", b"d", None)]),
    (conflict_added_inside_by_them, [("deleted by us", None, None, b"d/sub")]),
    (conflict_renames, [("renamed", b"ours", b"f", b"x/theirs")]),
    (conflict_occupied, [("renamed", b"f", b"f", b"x")]),
    (conflict_circle, [("renamed", b"c", b"c", b"d/c")]),
    (conflict_edit_in_deleted, [("deleted by them", b"d/g", b"d/g", None)]),
]


@pytest.mark.parametrize(("make", "kinds"), CONFLICTS, ids=[make.__name__ for make, _ in CONFLICTS])
def test_a_conflict(
    fresh: Volume, make: Callable[[Pair], None], kinds: list[tuple[str, bytes | None, bytes | None, bytes | None]]
) -> None:
    pair = pair_of(fresh, b"f", b"d/g", b"c/h")
    make(pair)
    ours, theirs = shown(pair.ours), shown(pair.theirs)
    put(pair.theirs, b"beside", b"merged all the same")
    report = pair.merge()
    assert pair.kinds() == kinds
    (conflict,) = report.conflicts
    # Ours is as it was, and the other sides are beside it.
    for kept, file in ours.items():
        assert kept == b"." or kept.startswith(b"d/g") or shown(pair.ours)[kept] == file
    assert read(pair.ours, b"beside") == b"merged all the same"
    stem = b".merge-%d" % report.number
    if conflict.theirs is not None:
        seen = shown(fresh.view_of(pair.main.snapshots[stem + b".theirs"]))
        assert conflict.theirs == b"." or seen[conflict.theirs] == theirs[conflict.theirs]
    if conflict.base is not None:
        fresh.view_of(pair.main.snapshots[stem + b".base"]).resolve(conflict.base)
    # While it is open there is no other merge, and what shows the sides stays.
    with pytest.raises(Refusal, match="resolve those first"):
        pair.merge()
    for name in (stem + b".base", stem + b".theirs"):
        with pytest.raises(Refusal, match="resolve those first"):
            fresh.drop_snapshot(pair.main, name, CALLER)
        with pytest.raises(Refusal, match="resolve those first"):
            fresh.rename_snapshot(pair.main, name, b"x", CALLER)
    # Each way to settle it, with an undo between.
    path = conflict.ours or conflict.theirs
    assert path is not None
    before = shown(pair.ours)
    for how in ("ours", "merged", "theirs"):
        if (make, how) == (conflict_circle, "theirs"):
            with pytest.raises(Refusal, match="one is in the other"):
                pair.resolve(path, how)
            continue
        pair.resolve(path, how)
        assert not fresh.conflicts(pair.main)
        assert stem + b".base" not in pair.main.snapshots and stem + b".theirs" not in pair.main.snapshots
        if how != "theirs":
            assert shown(pair.ours) == before
        else:
            check_taken(pair, path, conflict.theirs)
        fresh.undo(pair.main, CALLER)
        assert shown(pair.ours) == before
        assert pair.kinds() == kinds


def check_taken(pair: Pair, path: bytes, theirs: bytes | None) -> None:
    """Their side of a conflict is what there is."""
    mine, other = meaning(pair.ours), meaning(pair.theirs)
    if theirs is None:
        assert path not in mine
    elif theirs != b".":
        below = {each for each in other if each == theirs or each.startswith(theirs + b"/")}
        assert {each: mine[each] for each in below} == {each: other[each] for each in below}
        assert not any(each not in below for each in mine if each.startswith(theirs + b"/"))
    else:
        assert mine[b"."] == other[b"."]


@pytest.mark.parametrize("strategy", ["ours", "theirs"])
@pytest.mark.parametrize("make", [make for make, _ in CONFLICTS if make is not conflict_circle])
def test_a_strategy_decides(fresh: Volume, make: Callable[[Pair], None], strategy: str) -> None:
    pair = pair_of(fresh, b"f", b"d/g", b"c/h")
    make(pair)
    (conflict,) = pair.merge(dry_run=True).conflicts
    before = shown(pair.ours)
    report = pair.merge(strategy=strategy)
    assert not report.conflicts and report.decided == [conflict]
    assert not fresh.conflicts(pair.main) and not pair.main.snapshots
    path = conflict.ours or conflict.theirs
    assert path is not None
    if strategy == "theirs":
        check_taken(pair, path, conflict.theirs)
    elif conflict.ours is not None:
        assert shown(pair.ours)[path] == before[path]
    else:
        assert not exists(pair.ours, path)


def edited_and_replaced_by_a_directory(pair: Pair) -> None:
    put(pair.ours, b"f", edited(3))
    remove(pair.theirs, b"f")
    put(pair.theirs, b"f/in", b"theirs")


def renamed_to_where_they_put_something(pair: Pair) -> None:
    move(pair.ours, b"d/g", b"f2")
    remove(pair.theirs, b"d/g")
    put(pair.theirs, b"f2", b"theirs")


def renamed_twice_to_where_they_put_something(pair: Pair) -> None:
    move(pair.ours, b"f", b"f2")
    move(pair.theirs, b"f", b"f3")
    put(pair.theirs, b"f2", b"theirs")


def edited_and_replaced_by_another(pair: Pair) -> None:
    put(pair.ours, b"d/g", edited(3))
    move(pair.theirs, b"f", b"d/g")


def edited_and_replaced_by_one_that_we_saved(pair: Pair) -> None:
    put(pair.ours, b"d/g", edited(3))
    save(pair.ours, b"f", TEXT)
    move(pair.theirs, b"f", b"d/g")


def renamed_to_each_others_place(pair: Pair) -> None:
    for view, places in ((pair.ours, (b"x", b"y")), (pair.theirs, (b"y", b"x"))):
        move(view, b"f", places[0])
        move(view, b"d/g", places[1])


def renamed_over_what_they_edited(pair: Pair) -> None:
    move(pair.ours, b"d/g", b"f")
    put(pair.ours, b"f", edited(3))
    put(pair.theirs, b"f", b"theirs")
    put(pair.theirs, b"d/g", b"also theirs")


@pytest.mark.parametrize("turn", [None, 0, -1])
@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (edited_and_replaced_by_one_that_we_saved, ["deleted by them", "renamed"]),
        (renamed_over_what_they_edited, ["content", "deleted by us"]),
        (renamed_to_each_others_place, ["renamed", "renamed"]),
        (edited_and_replaced_by_a_directory, ["both added", "deleted by them"]),
        (renamed_to_where_they_put_something, ["both added", "deleted by them"]),
        (renamed_twice_to_where_they_put_something, ["both added", "renamed"]),
        (edited_and_replaced_by_another, ["deleted by them", "renamed"]),
    ],
)
def test_two_conflicts_about_one_path_do_each_other_no_harm(
    fresh: Volume, make: Callable[[Pair], None], kinds: list[str], turn: int | None
) -> None:
    """Whichever way their side is taken, at once or by one or the other first, it is what there is in the end."""
    pair = pair_of(fresh, b"f", b"d/g", b"c/h")
    make(pair)
    before = shown(pair.ours)
    report = pair.merge(strategy="theirs" if turn is None else None)
    assert sorted(each.kind for each in (report.conflicts or report.decided)) == kinds
    if turn is not None:
        assert shown(pair.ours) == before
        while found := fresh.conflicts(pair.main):
            pair.resolve(place(found[turn]), "theirs")
    assert contents(pair.ours) == contents(pair.theirs)


def test_a_link_that_we_renamed_is_not_doubled(fresh: Volume) -> None:
    """Their side of it is put in the place of ours, which they have somewhere else."""
    pair = pair_of(fresh, b"f")
    link(pair.ours, b"link", b"f")
    fresh.merge(pair.child, pair.main, CALLER)
    move(pair.ours, b"link", b"renamed")
    pair.ours.set_attributes(pair.ours.resolve(b"renamed"), uid=1)
    pair.theirs.set_attributes(pair.theirs.resolve(b"link"), uid=2)
    pair.merge()
    assert [each[0] for each in pair.kinds()] == ["attributes"]
    pair.resolve(b"renamed", "theirs")
    assert not exists(pair.ours, b"link") and pair.ours.resolve(b"renamed").uid == 2


def test_several_conflicts_are_settled_one_by_one(fresh: Volume) -> None:
    pair = pair_of(fresh, b"f", b"d/g", b"c/h")
    conflict_content(pair)
    conflict_deleted_by_us(pair)
    put(pair.theirs, b"beside", TEXT)
    report = pair.merge()
    assert [each[0] for each in pair.kinds()] == ["deleted by us", "content"]
    with pytest.raises(Refusal, match="no conflict at 'c/h'"):
        pair.resolve(b"c/h", "ours")
    with pytest.raises(Refusal, match="settled by one of"):
        pair.resolve(b"f", "mine")
    pair.resolve(b"f", "theirs")
    assert read(pair.ours, b"f") == edited(3) + b"theirs\n"
    assert len(pair.main.snapshots) == 2
    pair.resolve(b"d/g", "theirs")
    assert contents(pair.ours) == contents(pair.theirs)
    assert not pair.main.snapshots
    # Going back to before the merge, and forward again, from here.
    fresh.undo(pair.main, CALLER, report.number)
    assert read(pair.ours, b"f") == edited(3) + b"ours\n"
    fresh.undo(pair.main, CALLER)
    assert contents(pair.ours) == contents(pair.theirs)
    fresh.undo(pair.main, CALLER, report.number + 2)
    assert [each[0] for each in pair.kinds()] == ["deleted by us"]


# Whole or not at all


def test_a_kill_in_the_middle_leaves_the_old_state(
    fresh: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pair_of(fresh, b"f", b"g", b"d/h")
    conflict_content(pair)
    put(pair.theirs, b"new", os.urandom(5000))
    move(pair.theirs, b"g", b"d/g")
    before, theirs = shown(pair.ours), shown(pair.theirs)
    commit, copy = module._commit, tmp_path / "copy"

    def copy_first(*arguments: object) -> None:
        copy_live(fresh.store.path, copy)
        commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_commit", copy_first)
    pair.merge()
    monkeypatch.undo()
    merged = shown(pair.ours)
    assert merged != before
    volume = Volume.open(Store.open(copy))
    assert shown(volume.main.view) == before
    assert shown(volume.main.children[b"child"].view) == theirs
    assert not volume.conflicts(volume.main) and not volume.main.snapshots
    report = volume.merge(volume.main, volume.main.children[b"child"], CALLER)
    assert report.conflicts == fresh.conflicts(pair.main)
    assert shown(volume.main.view) == merged
    layers = len(volume.registry.layers)
    volume.close()
    assert len(volume.registry.layers) < layers, "the layer that the kill left is swept"
    volume = Volume.open(Store.open(copy))
    assert shown(volume.main.view) == merged
    assert volume.conflicts(volume.main) == report.conflicts
    check_invariants(volume.main.view)
    volume.close()


def test_a_full_disk_in_the_middle_leaves_the_old_state(fresh: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = pair_of(fresh, b"f", b"g")
    for name in (b"f", b"new", b"newer"):
        put(pair.theirs, name, edited(3))
    before = shown(pair.ours)
    append, left = fresh.engine.journal.append, iter(range(4))

    def full(kind: int, header: bytes, data: bytes = b"") -> int:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "full")
        return append(kind, header, data)

    monkeypatch.setattr(fresh.engine.journal, "append", full)
    with pytest.raises(OSError, match="full"):
        fresh.merge(pair.main, pair.child, CALLER)
    monkeypatch.undo()
    assert shown(pair.ours) == before
    settle(fresh)
    assert not pair.merge().conflicts
    assert contents(pair.ours) == contents(pair.theirs)


def test_open_files_see_a_merge(fresh: Volume) -> None:
    pair = pair_of(fresh, b"edited", b"deleted", b"replaced")
    held = {name: pair.ours.resolve(name) for name in (b"edited", b"deleted", b"replaced")}
    for inode in held.values():
        inode.lookups = inode.opens = 1
    put(pair.theirs, b"edited", edited(3))
    remove(pair.theirs, b"deleted")
    save(pair.theirs, b"replaced", edited(5))
    report = pair.merge()
    assert {inode.ino for inode in held.values()} <= report.changed
    seen = {name: bytes(pair.ours.read(inode, 0, inode.size)) for name, inode in held.items()}
    assert seen == {b"edited": edited(3), b"deleted": TEXT, b"replaced": TEXT}
    assert len(fresh.engine.orphans) == 2
    fresh.undo(pair.main, CALLER)
    assert pair.ours.resolve(b"deleted") is held[b"deleted"]
    assert pair.ours.resolve(b"replaced") is held[b"replaced"]
    assert not fresh.engine.orphans
    assert held[b"deleted"].orphan is None and held[b"deleted"].nlink == 1
    check_invariants(pair.ours)


# Which base


def test_merging_again_takes_only_what_is_new(fresh: Volume) -> None:
    """What the other side took out again does not come back."""
    pair = pair_of(fresh, b"f", b"g")
    put(pair.theirs, b"f", edited(3))
    put(pair.theirs, b"new", b"new")
    pair.merge()
    remove(pair.ours, b"new")
    put(pair.ours, b"f", TEXT)
    put(pair.theirs, b"g", edited(7))
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {b"f": TEXT, b"g": edited(7)}
    assert not pair.merge(pair.child, pair.main).conflicts
    assert contents(pair.theirs) == contents(pair.ours)


def test_siblings_and_grandchildren(fresh: Volume) -> None:
    pair = pair_of(fresh, b"f", b"g", b"h")
    brother = fresh.fork(pair.main, b"brother", CALLER)
    grandchild = fresh.fork(pair.child, b"grandchild", CALLER)
    put(pair.theirs, b"f", edited(1))
    put(brother.view, b"g", edited(2))
    put(grandchild.view, b"h", edited(3))
    put(pair.ours, b"f", edited(9))
    assert not pair.merge(brother, grandchild).conflicts
    assert contents(brother.view) == {b"f": TEXT, b"g": edited(2), b"h": edited(3)}
    assert not pair.merge(pair.child, brother).conflicts
    assert contents(pair.theirs) == {b"f": edited(1), b"g": edited(2), b"h": edited(3)}
    remove(pair.theirs, b"h")
    # The child has all of the brother and, by way of it, of the grandchild: nothing comes back.
    assert not pair.merge(pair.child, brother).number
    assert not pair.merge(pair.child, grandchild).number
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {b"f": edited(9, edited(1)), b"g": edited(2)}
    assert not pair.merge(pair.main, brother).changes


def test_what_was_taken_back_does_not_come_by_another_way(fresh: Volume) -> None:
    """Both have merged the same two states, of which neither contains the other."""
    pair = pair_of(fresh, b"f")
    put(pair.ours, b"new", b"new")
    put(pair.ours, b"f", edited(3))
    brother = fresh.fork(pair.main, b"brother", CALLER)
    put(pair.theirs, b"g", b"g")
    pair.merge()
    pair.merge(pair.child, brother)
    remove(pair.ours, b"new")
    put(pair.ours, b"f", TEXT)
    held = len(fresh.registry.layers)
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {b"f": TEXT, b"g": b"g"}
    fresh.registry.sweep()
    assert len(fresh.registry.layers) <= held + 2 and not fresh.registry.drafts


def test_what_was_settled_differently_is_open_again(fresh: Volume) -> None:
    """The states that both have merged conflict, and each side has settled that in its way."""
    pair = pair_of(fresh, b"f", b"h")
    put(pair.ours, b"f", b"ours")
    put(pair.ours, b"both", b"ours")
    remove(pair.ours, b"h")
    brother = fresh.fork(pair.main, b"brother", CALLER)
    put(pair.theirs, b"f", b"theirs")
    put(pair.theirs, b"both", b"theirs")
    put(pair.theirs, b"h", b"theirs")
    for view, name in ((brother.view, b"of brother"), (pair.theirs, b"of child")):
        put(view, name)
    pair.merge(strategy="ours")
    pair.merge(pair.child, brother, strategy="ours")
    pair.merge()
    assert pair.kinds() == [
        ("both added", b"both", None, b"both"), ("content", b"f", b"f", b"f"), ("deleted by us", None, b"h", b"h"),
    ]  # fmt: skip


def test_a_state_between_two_merges_contains_the_first(fresh: Volume) -> None:
    pair = pair_of(fresh, b"f")
    put(pair.theirs, b"new", b"new")
    pair.merge()
    remove(pair.ours, b"new")
    fresh.snapshot(pair.main, b"between", CALLER)
    put(pair.theirs, b"f", edited(3))
    pair.merge()
    fresh.restore(pair.main, "between", CALLER)
    assert contents(pair.ours) == {b"f": TEXT}
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {b"f": edited(3)}


@pytest.mark.parametrize("strategy", ["ours", None])
def test_the_state_before_a_merge_that_left_all_as_it_was_has_not_merged(fresh: Volume, strategy: str | None) -> None:
    pair = pair_of(fresh, b"f")
    put(pair.ours, b"f", b"ours")
    put(pair.theirs, b"f", b"theirs")
    brother = fresh.fork(pair.main, b"brother", CALLER)
    fresh.snapshot(pair.main, b"before", CALLER)
    pair.merge(strategy=strategy)
    if strategy is None:
        pair.resolve(b"f", "ours")
    assert contents(pair.ours) == {b"f": b"ours"}
    assert not pair.merge().number, "it is settled"
    assert pair.merge(brother, strategy="theirs").number
    assert read(brother.view, b"f") == b"theirs"
    fresh.restore(pair.main, "before", CALLER)
    assert pair.merge(strategy="theirs").number
    assert read(pair.ours, b"f") == b"theirs"


@pytest.mark.parametrize("state", ["child", "child@s"])
def test_what_a_tree_took_over_by_a_restore_is_merged(fresh: Volume, state: str) -> None:
    pair = pair_of(fresh, b"f", b"mine")
    put(pair.theirs, b"f", edited(3))
    put(pair.theirs, b"new", b"new")
    put(pair.theirs, b"passing", b"passing")
    remove(pair.theirs, b"mine")
    fresh.snapshot(pair.child, b"s", CALLER)
    fresh.restore(pair.main, state, CALLER)
    remove(pair.theirs, b"passing")
    assert pair.merge().number and sorted(contents(pair.ours)) == [b"f", b"new"], "also while ours is as it was there"
    fresh.restore(pair.main, state, CALLER)
    remove(pair.ours, b"new")
    put(pair.ours, b"f", edited(3, TEXT.replace(b"line 3", b"better")))
    put(pair.theirs, b"g", b"g")
    before = read(pair.ours, b"f")
    assert not pair.merge().conflicts
    assert contents(pair.ours) == {b"f": before, b"g": b"g"}
    fresh.undo(pair.main, CALLER)
    fresh.undo(pair.main, CALLER)
    assert fresh.main.record.merged[-1][1] == pair.child.id


def test_few_of_many_merges_are_remembered(fresh: Volume) -> None:
    pair = pair_of(fresh, b"f")
    put(pair.ours, b"mine", b"mine")
    fresh.merge(pair.child, pair.main, CALLER)
    for number in range(EARLIER_MERGES_MAX + 10):
        put(pair.theirs, b"f", edited(number % 20))
        assert not fresh.merge(pair.main, pair.child, CALLER).conflicts
    merged = fresh.main.record.merged
    assert len(merged) == EARLIER_MERGES_MAX + 1 and merged == sorted(merged)


LATERAL_KINDS = ("line", "file", "file", "move", "merge", "merge")
LATERAL: st.SearchStrategy[list[tuple[str, int, int]]] = st.lists(
    st.tuples(st.sampled_from(LATERAL_KINDS), PICK, PICK), max_size=40
)


@SETTINGS
@given(parents=st.lists(PICK, min_size=4, max_size=4), steps=LATERAL)
def test_what_each_does_with_its_own_is_merged_whichever_way(
    parents: list[int], steps: list[tuple[str, int, int]]
) -> None:
    """Each branch changes a line, a file and the place of that file which no other changes. Then there are no
    conflicts, and of each there is the newest that is in any of the states that were merged."""
    with new_volume() as volume:
        branches = [volume.main]
        states = [[(0, 0, 0)] * (len(parents) + 1)]
        put(volume.main.view, b"shared", lines_of(states[0]))
        for number, pick in enumerate(parents, 1):
            parent = pick % number
            branches.append(volume.fork(branches[parent], b"%d" % number, CALLER))
            states.append(list(states[parent]))
        for version, (kind, pick, other) in enumerate(steps, 1):
            who, whom = pick % len(branches), other % len(branches)
            view, state = branches[who].view, states[who]
            line, file, place = state[who]
            if kind == "line":
                state[who] = (version, file, place)
                put(view, b"shared", lines_of(state))
            elif kind == "file" and file > 0 and other % 3 == 0:
                remove(view, b"%d/at-%d" % (who, place))
                state[who] = (line, -version, place)
            elif kind == "file":
                put(view, b"%d/at-%d" % (who, place), b"%d" % version)
                state[who] = (line, version, place)
            elif kind == "move" and file > 0:
                move(view, b"%d/at-%d" % (who, place), b"%d/at-%d" % (who, version))
                state[who] = (line, file, version)
            elif kind == "merge" and who != whom:
                assert not volume.merge(branches[who], branches[whom], CALLER).conflicts
                for number, (mine, their) in enumerate(zip(list(state), states[whom], strict=True)):
                    newest = max(mine[1], their[1], key=abs)
                    state[number] = (max(mine[0], their[0]), newest, max(mine[2], their[2]))
            found = contents(view)
            assert found.pop(b"shared") == lines_of(state)
            assert found == {
                b"%d/at-%d" % (number, each[2]): b"%d" % each[1] for number, each in enumerate(state) if each[1] > 0
            }


def lines_of(state: list[tuple[int, int, int]]) -> bytes:
    return b"".join(b"%d\n-\n-\n" % line for line, _, _ in state)


def test_a_merge_that_was_undone_or_rolled_back_can_be_done_again(fresh: Volume) -> None:
    pair = pair_of(fresh, b"f")
    fresh.snapshot(pair.main, b"before", CALLER)
    put(pair.theirs, b"f", edited(3))
    for go_back in (lambda: fresh.undo(pair.main, CALLER), lambda: fresh.restore(pair.main, "before", CALLER)):
        assert pair.merge().number
        assert read(pair.ours, b"f") == edited(3)
        go_back()
        assert read(pair.ours, b"f") == TEXT
    assert pair.merge().number
    fresh.undo(pair.main, CALLER)
    fresh.undo(pair.main, CALLER)
    assert not pair.merge().number, "undoing the undo is having merged"


def test_a_branch_that_began_empty(fresh: Volume) -> None:
    put(fresh.main.view, b"f", TEXT)
    child = fresh.fork(fresh.main, b"child", CALLER, empty=True)
    put(child.view, b"f", TEXT)
    put(child.view, b"d/new", b"new")
    assert not fresh.merge(fresh.main, child, CALLER).conflicts
    assert contents(fresh.main.view) == {b"f": TEXT, b"d/new": b"new"}
    check_invariants(fresh.main.view)


def test_some_paths_only(fresh: Volume) -> None:
    pair = pair_of(fresh, b"a/f", b"a/g", b"b/f", b"m")
    for path in (b"a/f", b"a/g", b"b/f"):
        put(pair.theirs, path, edited(3))
    put(pair.theirs, b"deep/er/new", b"new")
    move(pair.theirs, b"m", b"deep/moved")
    assert not pair.merge(paths=[b"a/f", b"/deep/er/"]).conflicts
    assert {path for path, data in contents(pair.ours).items() if data != TEXT} == {b"a/f", b"deep/er/new"}
    assert not pair.merge(paths=[b"m"]).conflicts
    assert exists(pair.ours, b"deep/moved") and not exists(pair.ours, b"m")
    assert not pair.merge(paths=[b"m"]).number, "there is nothing left to do there"
    assert not pair.merge().conflicts
    assert contents(pair.ours) == contents(pair.theirs)
    with pytest.raises(Refusal, match="neither branch has 'nowhere'"):
        pair.merge(paths=[b"nowhere"])


def test_what_makes_no_sense_is_refused(fresh: Volume) -> None:
    pair = pair_of(fresh, b"f")
    with pytest.raises(Refusal, match="into itself"):
        pair.merge(pair.main, pair.main)
    with pytest.raises(Refusal, match="a strategy is one of ours, theirs"):
        pair.merge(strategy="mine")
    with pytest.raises(Refusal, match="no conflict at 'f'"):
        pair.resolve(b"f", "ours")


def test_the_log_says_so(fresh: Volume) -> None:
    pair = pair_of(fresh, b"f")
    put(pair.theirs, b"f", b"new")
    pair.merge(message="the work of the child")
    newest = fresh.log(pair.main)[-1]
    assert (newest.verb, newest.text, newest.uid) == ("merge", "child: the work of the child", CALLER.uid)


def busy(volume: Volume) -> Iterator[None]:
    """What goes on in a volume between two steps of something long, over and over."""
    number = 0
    while True:
        number += 1
        if number % 3 == 0:
            volume.snapshot(volume.main, b"busy%d" % number, CALLER)
        if number % 5 == 0:
            volume.flush()
        if number % 11 == 0:
            for _ in volume.collect():
                pass
            volume.flush()
        for _ in range(4):
            if volume.dirty():
                volume.step()
        yield


def large(volume: Volume) -> Pair:
    """Two branches that both changed much."""
    pair = Pair(volume, lambda view: [put(view, b"d%d/f%d" % (i % 7, i), TEXT) for i in range(40)])
    for i in range(0, 40, 3):
        put(pair.theirs, b"d%d/f%d" % (i % 7, i), TEXT.replace(b"line 3", b"theirs"))
        put(pair.theirs, b"new/n%d" % i, b"%d" % i)
    for i in range(0, 40, 4):
        put(pair.ours, b"d%d/f%d" % (i % 7, i), TEXT.replace(b"line 16", b"ours"))
    move(pair.theirs, b"d3", b"moved")
    return pair


def test_a_merge_in_steps_is_the_same_whatever_goes_on_between_them(tmp_path: Path) -> None:
    with new_volume() as at_once:
        pair = large(at_once)
        pair.merge()
        expected = shown(pair.ours)
    volume = Volume.open(Store.open(tmp_path / "store"))
    pair = large(volume)
    before, others = shown(pair.ours), busy(volume)
    steps = module.prepare(volume.registry, volume.main, pair.child, CALLER)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            prepared = end.value
            break
        next(others)
    assert shown(pair.ours) == before, "nothing is changed before the commit"
    assert prepared.is_current()
    prepared.commit()
    result = shown(pair.ours)
    assert {path: each[:-1] for path, each in result.items()} == {path: each[:-1] for path, each in expected.items()}
    check_invariants(pair.ours)
    volume.close()


def test_a_merge_that_was_being_prepared_leaves_nothing(tmp_path: Path) -> None:
    """Given up, killed, and with a change of the target meanwhile."""
    volume = Volume.open(Store.open(tmp_path / "store"))
    pair = large(volume)
    before = shown(pair.ours)
    for count in (5, 50, 100):
        steps = module.prepare(volume.registry, volume.main, pair.child, CALLER)
        assert sum(1 for _ in islice(steps, count)) == count
        volume.flush()
        steps.close()
        volume.flush()
    assert not volume.registry.drafts
    steps = module.prepare(volume.registry, volume.main, pair.child, CALLER)
    assert sum(1 for _ in islice(steps, 100)) == 100
    volume.flush()
    next(steps)
    volume.store.close()
    volume = Volume.open(Store.open(tmp_path / "store"))
    assert shown(volume.main.view) == before
    child = volume.main.children[b"child"]
    steps = module.prepare(volume.registry, volume.main, child, CALLER)
    assert sum(1 for _ in islice(steps, 50)) == 50
    put(volume.main.view, b"mine", b"written meanwhile")
    while True:
        try:
            next(steps)
        except StopIteration as end:
            prepared = end.value
            break
    assert not prepared.is_current()
    prepared.release()
    report = volume.merge(volume.main, child, CALLER)
    assert not report.conflicts
    assert shown(volume.main.view)[b"mine"].content == b"written meanwhile"
    assert b"theirs" in shown(volume.main.view)[b"moved/f3"].content
    check_invariants(volume.main.view)
    volume.close()
