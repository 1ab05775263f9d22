"""What changed between two states, against two plain walks of them."""

import json
import os
import subprocess
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings

from heliosfs.base.errors import Corruption, Refusal
from heliosfs.layers.layer import Layer
from heliosfs.volume.changes import Change, as_json, changes, names_text
from heliosfs.volume.volume import Volume
from tests.volume.trees import (
    CALLER,
    STEPS,
    Shown,
    Step,
    directory,
    link,
    move,
    new_volume,
    put,
    remove,
    settle,
    shown,
    take,
)

EXAMPLES = int(os.environ.get("HELIOSFS_TEST_EXAMPLES", "0"))


def now_and(volume: Volume) -> tuple[Layer, Layer]:
    """The state named "before" and the present one."""
    return volume.state(volume.main, "before"), volume.state(volume.main, "now")


def text_of(volume: Volume) -> str:
    return names_text(changes(volume.engine, *now_and(volume))).decode()


def find_changes(volume: Volume, *paths: bytes) -> list[Change]:
    return changes(volume.engine, *now_and(volume), paths)


def snapshot(volume: Volume) -> None:
    volume.snapshot(volume.main, b"before", CALLER)


@settings(max_examples=EXAMPLES or 150, deadline=None, derandomize=not EXAMPLES, database=None)
@given(first=STEPS, second=STEPS)
def test_changes_are_what_two_walks_say(first: list[Step], second: list[Step]) -> None:
    with new_volume() as volume:
        take(volume, first)
        snapshot(volume)
        before = shown(volume.main.view)
        take(volume, second)
        after = shown(volume.main.view)
        a, b = now_and(volume)
        check(before, after, changes(volume.engine, a, b))
        check(before, after, changes(volume.engine, a, b, flat=True))
        check(after, before, changes(volume.engine, b, a))
        settle(volume)
        snapshot_now = volume.snapshot(volume.main, b"after", CALLER).state
        settle(volume)
        found = changes(volume.engine, volume.state(volume.main, "before"), snapshot_now)
        check(before, after, found)
        assert [change[:4] for change in found] == [change[:4] for change in changes(volume.engine, a, snapshot_now)]


def check(before: dict[bytes, Shown], after: dict[bytes, Shown], found: list[Change]) -> None:
    """The changes make `after` of `before`, and nothing is said that is not so."""
    assert [change.path for change in found] == sorted(change.path for change in found)
    for change in found:
        check_one(before, after, change)
    moved = {change.old_path: change.path for change in found if change.kind == "R"}
    gone = {change.path for change in found if change.kind == "D"}
    set_anew = {change.path: change for change in found if change.kind != "D"}
    made: dict[bytes, Shown] = {}
    for path, file in before.items():
        if path not in gone:
            made[carried(path, moved)] = file
    for path, change in set_anew.items():
        if change.kind == "A" or change.what:
            made[path] = after[path]
    assert {path: meaning(file) for path, file in made.items()} == {path: meaning(file) for path, file in after.items()}


def carried(path: bytes, moved: dict[bytes | None, bytes]) -> bytes:
    """Where a path is once the renames are done."""
    head, rest = path, b""
    while head:
        if head in moved:
            return moved[head] + rest
        above, slash, name = head.rpartition(b"/")
        head, rest = above, slash + name + rest
    return path


def meaning(file: Shown) -> tuple[object, ...]:
    return file[:5]


def check_one(before: dict[bytes, Shown], after: dict[bytes, Shown], change: Change) -> None:
    old = before.get(change.path if change.old_path is None else change.old_path)
    new = after.get(change.path)
    if change.kind == "A":
        assert old is None and new is not None and change.before is None
    elif change.kind == "D":
        assert old is not None and new is None and change.after is None
    else:
        assert old is not None and new is not None
        names = ("type", "content", "mode", "owner", "xattrs")
        differing = [name for name in names if getattr(old, name) != getattr(new, name)]
        if "type" in differing:
            differing = ["type"]
        assert ["content" if what == "target" else what for what in change.what] == differing
        assert (change.kind == "T") == (differing == ["type"])
        assert change.before is not None and change.before.ino == old.ino
        assert change.after is not None and change.after.ino == new.ino
    if change.kind == "R":
        assert change.old_path not in after and change.path not in before
    if change.kind in "MT":
        assert change.what
        assert change.old_path is None or (change.old_path not in after and change.path not in before)


def test_each_kind_once() -> None:
    with new_volume() as volume:
        view = volume.main.view
        for path in (b"gone", b"edited", b"saved", b"moved", b"same", b"touched", b"type", b"dir/below", b"old/x/y"):
            put(view, path, path)
        snapshot(volume)
        remove(view, b"gone")
        put(view, b"new", b"new")
        put(view, b"edited", b"other")
        put(view, b"saved.tmp", b"saved anew")
        move(view, b"saved.tmp", b"saved")
        move(view, b"moved", b"dir/moved")
        put(view, b"same.tmp", b"same")
        move(view, b"same.tmp", b"same")
        view.set_attributes(view.resolve(b"touched"), mtime=5, atime=6)
        remove(view, b"type")
        link(view, b"type", b"there")
        move(view, b"old", b"young")
        put(view, b"fresh/one", b"1")
        assert text_of(volume) == (
            "R\tmoved\tdir/moved\nM\tedited\nA\tfresh\nA\tfresh/one\nD\tgone\nA\tnew\nM\tsaved\nT\ttype\nR\told\tyoung\n"
        )


def test_a_renamed_directory_is_one_change_with_what_changed_in_it() -> None:
    with new_volume() as volume:
        view = volume.main.view
        for number in range(20):
            put(view, b"src/deep/%d" % number, b"text")
        snapshot(volume)
        move(view, b"src", b"lib")
        assert text_of(volume) == "R\tsrc\tlib\n"
        put(view, b"lib/deep/3", b"changed")
        put(view, b"lib/deep/tmp", b"saved")
        move(view, b"lib/deep/tmp", b"lib/deep/4")
        move(view, b"lib/deep/5", b"lib/five")
        remove(view, b"lib/deep/6")
        assert text_of(volume) == (
            "R\tsrc\tlib\nM\tlib/deep/3\nM\tlib/deep/4\nR\tsrc/deep/5\tlib/five\nD\tsrc/deep/6\n"
        )
        [change] = find_changes(volume, b"lib/deep/3")
        assert (change.kind, change.old_path, change.what) == ("A", None, ())
        flat = changes(volume.engine, *now_and(volume), flat=True)
        assert sum(change.kind == "R" and not change.is_directory for change in flat) == 19


def test_a_directory_that_left_a_renamed_one_and_was_replaced_there() -> None:
    with new_volume() as volume:
        view = volume.main.view
        put(view, b"src/in/f", b"1")
        put(view, b"src/g", b"1")
        snapshot(volume)
        move(view, b"src", b"lib")
        move(view, b"lib/in", b"out")
        put(view, b"lib/in", b"now a file")
        remove(view, b"lib/g")
        link(view, b"lib/g", b"now a link")
        assert text_of(volume) == "R\tsrc\tlib\nT\tlib/g\nT\tlib/in\nA\tout\nR\tsrc/in/f\tout/f\n"


def test_a_directory_in_the_place_of_another_is_told_path_by_path() -> None:
    with new_volume() as volume:
        view = volume.main.view
        put(view, b"site/index", b"1")
        put(view, b"site/only-old", b"1")
        put(view, b"site.new/index", b"2")
        put(view, b"site.new/only-new", b"2")
        put(view, b"site.new/deep/same", b"2")
        snapshot(volume)
        remove(view, b"site")
        move(view, b"site.new", b"site")
        assert text_of(volume) == (
            "D\tsite.new\nD\tsite.new/index\n"
            "R\tsite.new/deep\tsite/deep\nM\tsite/index\nR\tsite.new/only-new\tsite/only-new\nD\tsite/only-old\n"
        )


def test_two_directories_that_changed_places_and_back() -> None:
    with new_volume() as volume:
        view = volume.main.view
        put(view, b"p/f", b"1")
        put(view, b"q/f", b"2")
        put(view, b"q/g", b"2")
        snapshot(volume)
        move(view, b"p", b"q", flags=2)
        assert text_of(volume) == "M\tp/f\nR\tq/g\tp/g\nM\tq/f\n"
        move(view, b"p", b"q", flags=2)
        assert text_of(volume) == ""


def test_each_name_of_a_file_is_a_change_of_its_own() -> None:
    with new_volume() as volume:
        view = volume.main.view
        inode = put(view, b"one", b"1")
        view.link(inode, view.root, b"two")
        snapshot(volume)
        view.link(inode, view.root, b"three")
        view.unlink(view.root, b"one")
        assert text_of(volume) == "R\tone\tthree\n"
        view.link(inode, view.root, b"four")
        view.write(inode, 0, b"2")
        assert text_of(volume) == "R\tone\tfour\nA\tthree\nM\ttwo\n"


def test_equal_bytes_from_different_sources_are_no_change() -> None:
    with new_volume() as volume:
        view = volume.main.view
        data = os.urandom(300_000)
        inode = put(view, b"file", data)
        put(view, b"hole", bytes(100_000))
        settle(volume)
        snapshot(volume)
        view.write(inode, 0, data[:1000])
        view.write(inode, 200_000, data[200_000:])
        hole = view.resolve(b"hole")
        view.set_attributes(hole, size=0)
        view.set_attributes(hole, size=100_000)
        assert text_of(volume) == ""
        view.write(hole, 99_999, b"x")
        view.write(inode, 299_999, bytes([data[-1] ^ 1]))
        assert text_of(volume) == "M\tfile\nM\thole\n"


def test_a_damaged_file_counts_as_changed() -> None:
    with new_volume() as volume:
        view = volume.main.view
        put(view, b"file", b"1" * 5000)
        settle(volume)
        snapshot(volume)
        put(view, b"file", b"1" * 5000)
        assert text_of(volume) == ""
        with mock.patch("heliosfs.volume.reader.read_extent", side_effect=Corruption("chunk", "here")):
            assert text_of(volume) == "M\tfile\n"


def test_the_root_directory_is_called_dot() -> None:
    with new_volume() as volume:
        snapshot(volume)
        volume.main.view.set_attributes(volume.main.view.root, mode=0o700)
        [change] = changes(volume.engine, *now_and(volume))
        assert (change.kind, change.path, change.what) == ("M", b".", ("mode",))


def test_only_the_paths_that_were_asked_for() -> None:
    with new_volume() as volume:
        view = volume.main.view
        put(view, b"in/x", b"1")
        put(view, b"in/y", b"1")
        put(view, b"inside", b"1")
        snapshot(volume)
        put(view, b"in/x", b"2")
        put(view, b"inside", b"2")
        move(view, b"in/y", b"out")

        def lines(*paths: bytes) -> list[str]:
            return names_text(find_changes(volume, *paths)).decode().splitlines()

        assert lines(b"in") == ["M\tin/x", "D\tin/y"]
        assert lines(b"in/", b"out") == ["M\tin/x", "R\tin/y\tout"]
        assert lines(b"out") == ["A\tout"]
        assert lines(b".") == ["M\tin/x", "M\tinside", "R\tin/y\tout"]
        assert lines(b"nothing") == []


def test_between_states_that_share_nothing() -> None:
    with new_volume() as volume:
        put(volume.main.view, b"dir/file", b"1")
        snapshot(volume)
        empty = volume.snapshot(volume.main, b"empty", CALLER, empty=True, filling=1)
        put(volume.view_of(empty), b"dir/file", b"2")
        volume.settle(empty)
        settle(volume)
        before = volume.state(volume.main, "before")
        found = changes(volume.engine, before, empty.state)
        assert [(change.path, change.what) for change in found] == [(b".", ("owner",)), (b"dir/file", ("content",))]


def test_the_cost_is_that_of_the_changes() -> None:
    """Of two sealed states of a tree of 3000 files, a comparison loads the few nodes on the way to what differs."""
    with new_volume() as volume:
        view = volume.main.view
        for number in range(3000):
            put(view, b"%d/%d" % (number % 30, number), b"x")
        snapshot(volume)
        for number in range(5):
            put(view, b"%d/%d" % (number, number), b"y")
        move(view, b"20", b"twenty")
        after = volume.snapshot(volume.main, b"after", CALLER).state
        settle(volume)
        before = volume.state(volume.main, "before")
        assert before.root is not None and after.root is not None
        nodes = type(volume.engine.tree)(volume.store.objects, 64 << 20)
        everything = sum(1 for _ in nodes.walk(before.root))
        volume.engine.tree = nodes
        loads = nodes.nodes.loads
        assert len(changes(volume.engine, before, after)) == 6
        assert nodes.nodes.loads - loads < everything / 4


def test_what_a_program_gets() -> None:
    with new_volume() as volume:
        view = volume.main.view
        put(view, b"\xff", b"1")
        snapshot(volume)
        move(view, b"\xff", b"b")
        view.set_attributes(view.resolve(b"b"), mode=0o600, uid=5)
        view.set_xattr(view.resolve(b"b"), b"user.k", b"v")
        view.write(view.resolve(b"b"), 0, b"22")
        [change] = changes(volume.engine, *now_and(volume))
        assert json.loads(json.dumps(as_json(change))) == {
            "change": "R",
            "path": "b",
            "old_path": "\udcff",
            "what": ["content", "mode", "owner", "xattrs"],
            "before": {"type": "file", "mode": "0644", "uid": 1000, "gid": 1000, "size": 1},
            "after": {"type": "file", "mode": "0600", "uid": 5, "gid": 1000, "size": 2},
        }


@pytest.mark.skipif(subprocess.call(["which", "git"], stdout=subprocess.DEVNULL) != 0, reason="git is not installed")
def test_names_are_quoted_as_git_quotes_them(tmp_path: Path) -> None:
    names = [bytes([byte]) + b"x" for byte in range(1, 256) if byte != ord("/")] + [
        b"plain",
        b"with blank",
        "é".encode(),
    ]
    run = ["git", "-C", str(tmp_path)]
    subprocess.run([*run, "init", "-q"], check=True)
    with new_volume() as volume:
        snapshot(volume)
        for name in names:
            put(volume.main.view, name, b"x")
            Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"x")
        subprocess.run([*run, "add", "-A"], check=True)
        said = subprocess.run([*run, "diff", "--cached", "--name-status"], check=True, capture_output=True).stdout
        assert sorted(text_of(volume).encode().split(b"\n")) == sorted(said.split(b"\n"))


def test_a_path_that_is_no_state_is_refused() -> None:
    with new_volume() as volume, pytest.raises(Refusal):
        volume.state(volume.main, "nothing")


def test_directories_show_when_their_attributes_change() -> None:
    with new_volume() as volume:
        view = volume.main.view
        directory(view, b"x/y")
        snapshot(volume)
        view.set_xattr(view.resolve(b"x"), b"user.k", b"v")
        view.set_attributes(view.resolve(b"x/y"), mtime=9)
        assert text_of(volume) == "M\tx\n"
