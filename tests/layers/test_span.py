"""Reading through very many unsealed layers: every state must be what it was, whatever was sealed since."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from heliosfs.store.store import Store
from heliosfs.view.inode import Caller
from heliosfs.view.view import View
from heliosfs.volume.volume import Volume

CALLER = Caller(0, 0, 1, b"test")
STATES = 150


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    volume = Volume.open(Store.open(tmp_path / "store"))
    yield volume
    volume.close()


def shown(view: View) -> dict[bytes, bytes]:
    found = {}
    for name, _, _ in view.entries(view.root):
        inode = view.lookup(view.root, name)
        assert inode is not None
        found[name] = bytes(view.read(inode, 0, 100)) + (b"x" if b"user.x" in view.list_xattrs(inode) else b"")
    return found


def change(view: View, number: int) -> None:
    """One of some changes, so that layers differ in what they touch."""
    name = b"f%d" % (number % 40)
    inode = view.lookup(view.root, name)
    if inode is None:
        inode = view.make(view.root, name, 0o100644, CALLER)
    elif number % 7 == 0:
        view.unlink(view.root, name)
        return
    elif number % 7 == 1:
        view.rename(view.root, name, view.root, b"f%d" % ((number + 3) % 40))
    elif number % 7 == 2:
        view.set_xattr(inode, b"user.x", b"")
    view.write(inode, number % 5, b"%d" % number)


def test_every_state_of_a_long_chain_reads_as_it_was(volume: Volume) -> None:
    view, states = volume.main.view, {}
    for number in range(STATES):
        change(view, number)
        name = b"s%d" % number
        volume.snapshot(volume.main, name, CALLER)
        states[name] = shown(view)
        view.inodes.clear()
        assert shown(view) == states[name]
    assert view.top.depth >= STATES - 1
    steps = 0
    while True:
        for name in [b"s%d" % (number * 31 % STATES) for number in range(steps % 7, STATES, 7)]:
            snapshot_view = volume.view_of(volume.main.snapshots[name])
            snapshot_view.inodes.clear()
            assert shown(snapshot_view) == states[name]
        for _ in range(100):
            if volume.dirty():
                volume.step()
                steps += 1
        if not volume.dirty():
            break
    assert shown(view) == states[b"s%d" % (STATES - 1)]


def test_names_that_never_were_are_absent(volume: Volume) -> None:
    view = volume.main.view
    directory = view.make(view.root, b"d", 0o040755, CALLER)
    for number in range(STATES):
        view.make(directory, b"n%d" % number, 0o100644, CALLER)
        volume.snapshot(volume.main, b"s%d" % number, CALLER)
    assert view.lookup(directory, b"absent") is None
    for number in range(STATES):
        assert view.lookup(directory, b"n%d" % number) is not None
    assert view.top.depth >= STATES
