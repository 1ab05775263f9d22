"""Directories: listings that stay right while they change, positions in them, and very many entries."""

from __future__ import annotations

import errno
import os
import random
import socket
import stat
from pathlib import Path

from .support import DirectoryStream, fails, opened, working_directory

MANY = int(os.environ.get("HELIOSFS_TEST_ENTRIES", "20000"))
"""Far more than one reply holds, and more than a layer may before it is sealed when set to 100000 by hand."""


def fill(directory: Path, count: int, prefix: str = "entry") -> set[bytes]:
    """Make files in the cheapest way; the names vary in length, so that buffers end at odd places."""
    names = {f"{prefix}-{number}-{'x' * (number % 40)}".encode() for number in range(count)}
    with opened(directory, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        for name in names:
            os.mknod(name, dir_fd=descriptor)
    return names


def test_a_listing_is_complete_and_typed(tree: Path) -> None:
    (tree / "file").touch()
    (tree / "directory").mkdir()
    (tree / "symlink").symlink_to("nowhere")
    os.mkfifo(tree / "fifo")
    with working_directory(tree), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    kinds = {
        b"file": stat.S_IFREG,
        b"directory": stat.S_IFDIR,
        b"symlink": stat.S_IFLNK,
        b"fifo": stat.S_IFIFO,
        b"socket": stat.S_IFSOCK,
    }
    with DirectoryStream(tree) as stream:
        entries = {}
        while (entry := stream.read()) is not None:
            assert entry.name not in entries
            entries[entry.name] = entry
    assert set(entries) == {b".", b"..", *kinds}
    for name, kind in kinds.items():
        assert entries[name].kind << 12 == kind
        assert entries[name].ino == os.lstat(os.path.join(os.fsencode(tree), name)).st_ino
    assert entries[b"."].ino == tree.stat().st_ino
    assert entries[b".."].ino == tree.parent.stat().st_ino


def test_an_empty_directory_lists_itself_and_its_parent(tree: Path) -> None:
    with DirectoryStream(tree) as stream:
        names = []
        while (entry := stream.read()) is not None:
            names.append(entry.name)
    assert sorted(names) == [b".", b".."]


def test_only_directories_are_listed(tree: Path) -> None:
    (tree / "file").touch()
    with fails(errno.ENOTDIR):
        os.listdir(tree / "file")
    with fails(errno.ENOENT):
        os.listdir(tree / "missing")


def test_long_names_fill_many_buffers(tree: Path) -> None:
    names = {f"{number:04}".encode() + b"\xfe" * 251 for number in range(1_500)}
    with opened(tree, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        for name in names:
            os.mknod(name, dir_fd=descriptor)
    listing = os.listdir(os.fsencode(tree))
    assert len(listing) == 1_500
    assert set(listing) == names


def test_removing_everything_while_listing(tree: Path) -> None:
    """What `rm -r` does: each name comes once, although its predecessors are gone."""
    names = fill(tree, 3_000)
    removed = []
    with DirectoryStream(tree) as stream:
        while (entry := stream.read()) is not None:
            if entry.name not in (b".", b".."):
                os.unlink(os.path.join(os.fsencode(tree), entry.name))
                removed.append(entry.name)
    assert len(removed) == 3_000
    assert set(removed) == names
    assert os.listdir(tree) == []


def test_what_stays_is_listed_once_whatever_else_changes(tree: Path) -> None:
    kept = fill(tree, 2_000, "kept")
    going = sorted(fill(tree, 1_000, "going"))
    root = os.fsencode(tree)
    choose = random.Random(1)
    choose.shuffle(going)
    seen: list[bytes] = []
    made = 0
    with DirectoryStream(tree) as stream:
        while (entry := stream.read()) is not None:
            seen.append(entry.name)
            action = choose.randrange(4)
            if action == 0 and going:
                os.unlink(os.path.join(root, going.pop()))
            elif action == 1 and going:
                os.rename(os.path.join(root, going.pop()), os.path.join(root, b"moved-%d" % made))
                made += 1
            elif action == 2 and made < 2_000:
                os.mknod(os.path.join(root, b"new-%d" % made))
                made += 1
    listed = [name for name in seen if name in kept]
    assert len(listed) == len(kept)
    assert set(listed) == kept
    assert len(seen) == len(set(seen)), "no name comes twice"


def test_positions_lead_back(tree: Path) -> None:
    fill(tree, 1_200)
    with DirectoryStream(tree) as stream:
        start = stream.tell()
        entries = []
        positions = [start]
        while (entry := stream.read()) is not None:
            entries.append(entry.name)
            positions.append(entry.position)
        order = list(range(len(entries)))
        random.Random(2).shuffle(order)
        for index in order[:300]:
            stream.seek(positions[index])
            found = stream.read()
            assert found is not None
            assert found.name == entries[index]
        stream.seek(positions[-1])
        assert stream.read() is None
        stream.seek(start)
        assert stream.names() == [name for name in entries if name not in (b".", b"..")]


def test_positions_hold_while_entries_go(tree: Path) -> None:
    fill(tree, 1_000)
    root = os.fsencode(tree)
    with DirectoryStream(tree) as stream:
        before = []
        for _ in range(500):
            entry = stream.read()
            assert entry is not None
            before.append(entry.name)
        middle = stream.tell()
        rest = stream.names()
        for name in before:
            if name not in (b".", b".."):
                os.unlink(os.path.join(root, name))
        stream.seek(middle)
        assert stream.names() == rest


def test_rewinding_shows_what_is_new(tree: Path) -> None:
    names = fill(tree, 500)
    with DirectoryStream(tree) as stream:
        assert set(stream.names()) == names
        (tree / "new").touch()
        os.unlink(os.path.join(os.fsencode(tree), min(names)))
        stream.rewind()
        listing = stream.names()
        assert set(listing) == names - {min(names)} | {b"new"}
        assert len(listing) == 500


def test_two_streams_do_not_disturb_each_other(tree: Path) -> None:
    names = fill(tree, 700)
    with DirectoryStream(tree) as one, DirectoryStream(tree) as two:
        first = [one.read() for _ in range(350)]
        assert set(two.names()) == names
        rest = one.names()
        assert {entry.name for entry in first if entry is not None} - {b".", b".."} | set(rest) == names


def test_a_removed_directory_lists_nothing(tree: Path) -> None:
    (tree / "directory").mkdir()
    with opened(tree / "directory", os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        (tree / "directory").rmdir()
        assert os.listdir(descriptor) == []


def test_very_many_entries(tree: Path) -> None:
    names = fill(tree, MANY)
    listing = os.listdir(os.fsencode(tree))
    assert len(listing) == MANY
    assert set(listing) == names
    ordered = sorted(names)
    root = os.fsencode(tree)
    choose = random.Random(3)
    for name in choose.sample(ordered, 500):
        assert stat.S_ISREG(os.lstat(os.path.join(root, name)).st_mode)
    gone = choose.sample(ordered, MANY // 20)
    with DirectoryStream(tree) as stream:
        seen = [entry.name for _ in range(MANY // 2) if (entry := stream.read()) is not None]
        middle = stream.tell()
        for name in gone[::2]:
            os.unlink(os.path.join(root, name))
        for name in gone[1::2]:
            os.rename(os.path.join(root, name), os.path.join(root, b"moved-" + name))
        for number in range(MANY // 40):
            os.mkdir(os.path.join(root, b"made-%d" % number))
        seen += stream.names()
        stream.seek(middle)
        again = stream.names()
    staying = names - set(gone)
    new = {b"moved-" + name for name in gone[1::2]} | {b"made-%d" % number for number in range(MANY // 40)}
    assert staying <= set(seen) <= names | new | {b".", b".."}
    assert len(seen) == len(set(seen))
    # What was listed after that position is listed again, but for what is gone.
    assert set(seen[MANY // 2 :]) - set(gone) <= set(again) <= staying | new
    assert len(again) == len(set(again))
    assert set(os.listdir(root)) == staying | new
    assert tree.stat().st_nlink >= 1
