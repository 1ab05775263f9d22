"""Restoring some paths: just these, with identity and extents, as one operation."""

import errno
import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosfs.base.errors import Refusal
from heliosfs.layers import stack
from heliosfs.volume.changes import changes
from heliosfs.volume.volume import Volume
from tests.volume.test_merge import check_invariants
from tests.volume.trees import CALLER, STEPS, Step, directory, link, move, new_volume, put, remove, settle, shown, take

EXAMPLES = int(os.environ.get("HELIOSFS_TEST_EXAMPLES", "0"))
SETTINGS = settings(max_examples=EXAMPLES or 15, deadline=None, derandomize=not EXAMPLES, database=None)


@pytest.fixture
def fresh() -> Iterator[Volume]:
    with new_volume() as volume:
        yield volume


def restore(volume: Volume, state: str, *paths: bytes) -> list[str]:
    found, _ = volume.restore_paths(volume.main, state, list(paths), CALLER)
    check_invariants(volume.main.view)
    return [change.kind + change.path.decode() for change in found]


def test_just_the_paths(fresh: Volume) -> None:
    view = fresh.main.view
    for path in (b"a/x", b"a/y", b"b", b"c"):
        put(view, path, path)
    link(view, b"a/l", b"x")
    fresh.snapshot(fresh.main, b"s", CALLER)
    before = shown(view)
    held = view.resolve(b"a/x")
    put(view, b"a/x", b"other")
    remove(view, b"a/y")
    remove(view, b"a/l")
    put(view, b"a/new", b"new")
    put(view, b"b", b"other")
    remove(view, b"c")
    assert restore(fresh, "s", b"a") == ["Aa/l", "Da/new", "Ma/x", "Aa/y"]
    after = shown(view)
    assert {path: each for path, each in after.items() if path.startswith(b"a")} == {
        path: each for path, each in before.items() if path.startswith(b"a")
    }
    assert after[b"b"].content == b"other" and b"c" not in after
    assert bytes(view.read(held, 0, 10)) == b"a/x" and view.resolve(b"a/x") is held
    [number] = [each.number for each in fresh.log(fresh.main)][-1:]
    assert fresh.log(fresh.main)[-1].text == "s -- a"
    fresh.undo(fresh.main, CALLER, number)
    assert b"a/new" in shown(view) and shown(view)[b"a/x"].content == b"other"


def test_nothing_is_copied(fresh: Volume) -> None:
    view = fresh.main.view
    data = os.urandom(300_000)
    ino = put(view, b"f", data).ino
    fresh.snapshot(fresh.main, b"s", CALLER)
    settle(fresh)
    state = fresh.main.snapshots[b"s"].state
    extents = stack.resolve(fresh.engine.tree, state, ino, 0, len(data))
    objects = fresh.store.objects.statistics.objects
    remove(view, b"f")
    head = fresh.engine.journal.head
    restore(fresh, "s", b"f")
    assert fresh.engine.journal.head - head < 10_000
    assert stack.resolve(fresh.engine.tree, view.top, ino, 0, len(data)) == extents
    assert view.resolve(b"f").ino == ino and bytes(view.read(view.resolve(b"f"), 0, len(data))) == data
    assert fresh.store.objects.statistics.objects == objects


def test_what_was_moved_elsewhere_stays_there(fresh: Volume) -> None:
    view = fresh.main.view
    put(view, b"d/f", b"content")
    fresh.snapshot(fresh.main, b"s", CALLER)
    move(view, b"d", b"e")
    assert restore(fresh, "s", b"d/f") == ["Ad/f"]
    found = shown(view)
    assert found[b"d/f"].content == found[b"e/f"].content == b"content"
    assert found[b"d/f"].ino != found[b"e/f"].ino
    assert restore(fresh, "s", b"e") == ["De", "De/f"]
    assert sorted(shown(view)) == [b".", b"d", b"d/f"]


def test_names_of_one_file(fresh: Volume) -> None:
    view = fresh.main.view
    inode = put(view, b"a", b"content")
    view.link(inode, view.root, b"b")
    fresh.snapshot(fresh.main, b"s", CALLER)
    remove(view, b"b")
    restore(fresh, "s", b"b")
    assert view.resolve(b"b") is view.resolve(b"a")
    remove(view, b"b")
    put(view, b"a", b"changed")
    restore(fresh, "s", b"b")
    assert view.resolve(b"b") is not view.resolve(b"a")
    assert shown(view)[b"a"].content == b"changed" and shown(view)[b"b"].content == b"content"


def test_refusals_change_nothing(fresh: Volume) -> None:
    view = fresh.main.view
    put(view, b"d/f", b"content")
    fresh.snapshot(fresh.main, b"s", CALLER)
    remove(view, b"d")
    put(view, b"d", b"a file now")
    before, operations = shown(view), len(fresh.log(fresh.main))
    for path, number in (
        (b"../x", errno.EINVAL), (b"a/../../x", errno.EINVAL), (b".snapshots/s/d", errno.EINVAL),
        (b"nothing", errno.ENOENT), (b"d/f", errno.ENOTDIR),
    ):  # fmt: skip
        with pytest.raises(Refusal) as refusal:
            restore(fresh, "s", path)
        assert refusal.value.errno == number
    with pytest.raises(Refusal):
        restore(fresh, "unknown", b"d")
    assert shown(view) == before and len(fresh.log(fresh.main)) == operations
    assert restore(fresh, "now", b"d") == []


def test_the_whole_tree_by_its_root(fresh: Volume) -> None:
    view = fresh.main.view
    put(view, b"a", b"1")
    directory(view, b"d/e")
    fresh.snapshot(fresh.main, b"s", CALLER)
    before = shown(view)
    move(view, b"d", b"a2")
    move(view, b"a", b"d")
    view.set_attributes(view.root, mode=0o700)
    dry = [change.kind + change.path.decode() for change in fresh.restore_changes(fresh.main, "s", [b"."])]
    assert restore(fresh, "s", b".") == dry != []
    assert shown(view) == before


@SETTINGS
@given(STEPS, STEPS, st.lists(st.sampled_from([b"a", b"b", b"c", b"a/b", b"b/a", b"d e"]), min_size=1, max_size=3))
def test_any_paths(first: list[Step], second: list[Step], paths: list[bytes]) -> None:
    """Afterwards the paths are as in the state, and all else is as it was."""
    with new_volume() as volume:
        view = volume.main.view

        def allowed(kind: str) -> bool:
            return kind != "link"  # Other names of a file that is restored show its content too.

        take(volume, first, allowed)
        state = volume.snapshot(volume.main, b"state", CALLER).state
        take(volume, second, allowed)
        before = shown(view)
        try:
            restore(volume, "state", *paths)
        except Refusal as refusal:
            assert refusal.errno in (errno.ENOENT, errno.ENOTDIR)
            assert shown(view) == before
            return
        assert changes(volume.engine, view.top, state, paths) == []
        after = shown(view)

        def outside(path: bytes) -> bool:
            ends = path + b"/"
            return not any(ends.startswith(each + b"/") or each.startswith(ends) for each in paths)

        left = {path: each for path, each in before.items() if outside(path)}
        assert {path: each for path, each in after.items() if outside(path)} == left
