"""Names: looking up, creating, linking, renaming and removing them, with every byte and length allowed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from .support import RENAME_EXCHANGE, RENAME_NOREPLACE, fails, opened, rename_with, root_only, working_directory

AWKWARD_NAMES = [
    b"\xff\xfe\x80 not UTF-8",
    "é".encode() * 127,
    b"a" * 255,
    b"\xff" * 255,
    b" leading and trailing ",
    b"new\nline\ttab\x01\x7f",
    b"-rf",
    b"...",
    b"..a",
    b".hidden",
    b"back\\slash \"quoted\" 'too' $HOME * ?",
    b"\xc3\xa9",  # e with acute, composed
    b"e\xcc\x81",  # and decomposed: another name
    b"CASE",
    b"case",
]


def test_a_missing_name_appears_and_goes(tree: Path) -> None:
    path = tree / "file"
    for _ in range(3):
        with fails(errno.ENOENT):
            path.stat()
        path.touch()
        assert stat.S_ISREG(path.stat().st_mode)
        path.unlink()
    path.mkdir()
    assert stat.S_ISDIR(path.stat().st_mode)


def test_a_file_has_nothing_below_it(tree: Path) -> None:
    (tree / "file").touch()
    with fails(errno.ENOTDIR):
        (tree / "file" / "below").stat()
    with fails(errno.ENOTDIR):
        (tree / "file" / "below").touch()
    with fails(errno.ENOTDIR):
        os.stat(f"{tree}/file/")
    with fails(errno.ENOENT):
        (tree / "missing" / "below").touch()


def test_existing_names_are_refused(tree: Path) -> None:
    (tree / "file").write_text("kept")
    (tree / "directory").mkdir()
    (tree / "symlink").symlink_to("nowhere")
    for name in ("file", "directory", "symlink"):
        with fails(errno.EEXIST):
            (tree / name).mkdir()
        with fails(errno.EEXIST):
            (tree / name).symlink_to("elsewhere")
        with fails(errno.EEXIST):
            os.link(tree / "file", tree / name)
        with fails(errno.EEXIST):
            os.mknod(tree / name)
        with fails(errno.EEXIST):
            os.open(tree / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    with fails(errno.EEXIST):
        os.mkdir(f"{tree}/.")
    assert (tree / "file").read_text() == "kept"


def test_awkward_names_are_kept_byte_for_byte(tree: Path) -> None:
    root = os.fsencode(tree)
    for name in AWKWARD_NAMES:
        with opened(os.path.join(root, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY) as descriptor:
            os.write(descriptor, name)
    assert sorted(os.listdir(root)) == sorted(AWKWARD_NAMES)
    for name in AWKWARD_NAMES:
        with opened(os.path.join(root, name)) as descriptor:
            assert os.read(descriptor, 1000) == name
    os.mkdir(os.path.join(root, b"moved"))
    for name in AWKWARD_NAMES:
        os.rename(os.path.join(root, name), os.path.join(root, b"moved", name))
    assert os.listdir(root) == [b"moved"]
    assert sorted(os.listdir(os.path.join(root, b"moved"))) == sorted(AWKWARD_NAMES)
    for name in AWKWARD_NAMES:
        os.unlink(os.path.join(root, b"moved", name))
    os.rmdir(os.path.join(root, b"moved"))


CREATIONS: dict[str, Callable[[Path, Path], object]] = {
    "open": lambda tree, path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)),
    "mkdir": lambda tree, path: path.mkdir(),
    "symlink": lambda tree, path: path.symlink_to("target"),
    "link": lambda tree, path: os.link(tree / "file", path),
    "mknod": lambda tree, path: os.mknod(path),
    "mkfifo": lambda tree, path: os.mkfifo(path),
    "rename": lambda tree, path: os.rename(tree / "file", path),
}


@pytest.mark.parametrize("creation", CREATIONS)
def test_the_longest_name(tree: Path, creation: str) -> None:
    (tree / "file").touch()
    with fails(errno.ENAMETOOLONG):
        CREATIONS[creation](tree, tree / ("n" * 256))
    CREATIONS[creation](tree, tree / ("n" * 255))
    assert "n" * 255 in os.listdir(tree)


def test_too_long_names_are_refused_everywhere(tree: Path) -> None:
    path = tree / ("n" * 256)
    actions: list[Callable[[Path], object]] = [
        os.lstat,
        os.unlink,
        os.rmdir,
        os.readlink,
        os.listdir,
        lambda p: os.chmod(p, 0),
    ]
    for action in actions:
        with fails(errno.ENAMETOOLONG):
            action(path)
    with fails(errno.ENAMETOOLONG):
        os.rename(path, tree / "other")
    with fails(errno.ENAMETOOLONG):
        os.stat("x/" * 2100)


def test_paths_deeper_than_a_path_may_be_long(tree: Path) -> None:
    depth = 600
    name = "directory-9"  # 600 times 12 bytes is beyond the 4096 of one path
    descriptors = [os.open(tree, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        for level in range(depth):
            os.mkdir(name, dir_fd=descriptors[-1])
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptors[-1])
            if level % 50:
                os.close(descriptors.pop())
            descriptors.append(descriptor)
        with opened("leaf", os.O_CREAT | os.O_RDWR, dir_fd=descriptors[-1]) as leaf:
            os.write(leaf, b"deep")
            assert os.pread(leaf, 10, 0) == b"deep"
        current = descriptors[-1]
        os.unlink("leaf", dir_fd=current)
        for _ in range(depth):
            above = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
            descriptors.append(above)
            os.rmdir(name, dir_fd=above)
            descriptors.remove(current)
            os.close(current)
            current = above
        assert os.path.samestat(os.fstat(current), os.stat(tree))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    assert os.listdir(tree) == []


def test_removing_needs_the_right_call(tree: Path) -> None:
    (tree / "file").touch()
    (tree / "directory" / "below").mkdir(parents=True)
    with fails(errno.EISDIR):
        (tree / "directory").unlink()
    with fails(errno.ENOTDIR):
        (tree / "file").rmdir()
    with fails(errno.ENOTEMPTY):
        (tree / "directory").rmdir()
    with fails(errno.EINVAL):
        os.rmdir(f"{tree}/directory/.")
    with fails(errno.ENOTEMPTY):
        os.rmdir(f"{tree}/directory/below/..")
    with fails(errno.ENOENT):
        (tree / "missing").unlink()
    with fails(errno.ENOENT):
        (tree / "missing").rmdir()
    (tree / "directory" / "below").rmdir()
    (tree / "directory").rmdir()


def test_a_directory_emptied_of_links_can_be_removed(tree: Path) -> None:
    directory = tree / "directory"
    directory.mkdir()
    (tree / "file").touch()
    os.link(tree / "file", directory / "link")
    with fails(errno.ENOTEMPTY):
        directory.rmdir()
    os.rename(directory / "link", tree / "elsewhere")
    directory.rmdir()


def test_a_removed_working_directory_takes_nothing_new(tree: Path) -> None:
    (tree / "directory").mkdir()
    with opened(tree / "directory", os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        (tree / "directory").rmdir()
        with fails(errno.ENOENT):
            os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
        with fails(errno.ENOENT):
            os.mkdir("below", dir_fd=descriptor)
        assert os.listdir(descriptor) == []
        assert os.fstat(descriptor).st_nlink == 0


def test_rename_replaces_a_file(tree: Path) -> None:
    (tree / "new").write_text("new")
    (tree / "old").write_text("old")
    ino = (tree / "new").stat().st_ino
    with opened(tree / "old") as descriptor:
        os.rename(tree / "new", tree / "old")
        assert os.fstat(descriptor).st_nlink == 0
        assert os.read(descriptor, 10) == b"old"
    assert (tree / "old").read_text() == "new"
    assert (tree / "old").stat().st_ino == ino
    assert os.listdir(tree) == ["old"]


def test_rename_over_an_open_hard_link_leaves_the_other(tree: Path) -> None:
    (tree / "one").write_text("content")
    os.link(tree / "one", tree / "two")
    (tree / "new").write_text("new")
    os.rename(tree / "new", tree / "one")
    assert (tree / "two").read_text() == "content"
    assert (tree / "two").stat().st_nlink == 1


def test_rename_between_links_of_one_file_does_nothing(tree: Path) -> None:
    (tree / "one").touch()
    os.link(tree / "one", tree / "two")
    os.rename(tree / "one", tree / "two")
    assert sorted(os.listdir(tree)) == ["one", "two"]
    os.rename(tree / "one", tree / "one")
    assert (tree / "one").stat().st_nlink == 2


def test_rename_keeps_kinds_apart(tree: Path) -> None:
    (tree / "file").touch()
    (tree / "directory").mkdir()
    with fails(errno.EISDIR):
        os.rename(tree / "file", tree / "directory")
    with fails(errno.ENOTDIR):
        os.rename(tree / "directory", tree / "file")
    with fails(errno.ENOENT):
        os.rename(tree / "missing", tree / "file")
    with fails(errno.ENOENT):
        os.rename(tree / "file", tree / "missing" / "file")


def test_rename_over_directories(tree: Path) -> None:
    (tree / "from" / "inside").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "full" / "something").mkdir(parents=True)
    with fails(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(tree / "from", tree / "full")
    os.rename(tree / "from", tree / "empty")
    assert os.listdir(tree / "empty") == ["inside"]
    assert sorted(os.listdir(tree)) == ["empty", "full"]


def test_a_directory_cannot_move_into_itself(tree: Path) -> None:
    (tree / "outer" / "middle" / "inner").mkdir(parents=True)
    with fails(errno.EINVAL):
        os.rename(tree / "outer", tree / "outer" / "new")
    with fails(errno.EINVAL):
        os.rename(tree / "outer", tree / "outer" / "middle" / "inner" / "new")
    with fails(errno.EINVAL, errno.ENOTEMPTY):
        os.rename(tree / "outer", tree / "outer" / "middle")
    with fails(errno.ENOTEMPTY):
        os.rename(tree / "outer" / "middle" / "inner", tree / "outer")
    with fails(errno.EINVAL):
        rename_with(tree / "outer", tree / "outer" / "middle" / "inner", RENAME_EXCHANGE)
    with fails(errno.EINVAL, errno.EBUSY):
        os.rename(f"{tree}/outer/.", tree / "new")
    assert os.listdir(tree / "outer" / "middle") == ["inner"]


@root_only
def test_directories_move_between_set_gid_parents_as_they_are(tree: Path) -> None:
    for name, group in (("one", 1000), ("two", 2000)):
        (tree / name).mkdir()
        os.chown(tree / name, -1, group)
        (tree / name).chmod(0o2775)
    (tree / "one" / "moved").mkdir()
    (tree / "plain").mkdir()
    os.rename(tree / "one" / "moved", tree / "two" / "moved")
    os.rename(tree / "plain", tree / "two" / "plain")
    assert ((tree / "two" / "moved").stat().st_gid, (tree / "two" / "plain").stat().st_gid) == (1000, os.getegid())
    assert (tree / "two" / "moved").stat().st_mode & stat.S_ISGID
    assert not (tree / "two" / "plain").stat().st_mode & stat.S_ISGID
    (tree / "two" / "moved" / "new").mkdir()
    assert (tree / "two" / "moved" / "new").stat().st_gid == 1000
    rename_with(tree / "two" / "moved", tree / "one", RENAME_EXCHANGE)
    assert ((tree / "one").stat().st_gid, (tree / "two" / "moved").stat().st_gid) == (1000, 1000)


def test_a_moved_directory_knows_its_new_parent(tree: Path) -> None:
    (tree / "one" / "moving" / "below").mkdir(parents=True)
    (tree / "two").mkdir()
    with opened(tree / "one" / "moving", os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.rename(tree / "one" / "moving", tree / "two" / "moved")
        assert os.stat("..", dir_fd=descriptor).st_ino == (tree / "two").stat().st_ino
        os.mkdir("later", dir_fd=descriptor)
        with working_directory(descriptor):
            assert os.getcwd() == str(tree / "two" / "moved")
    assert sorted(os.listdir(tree / "two" / "moved")) == ["below", "later"]
    assert (tree / "one").stat().st_nlink == 2
    assert (tree / "two").stat().st_nlink == 3


def test_open_files_follow_their_renames(tree: Path) -> None:
    with opened(tree / "first", os.O_CREAT | os.O_RDWR) as descriptor:
        os.write(descriptor, b"one ")
        os.rename(tree / "first", tree / "second")
        os.write(descriptor, b"two")
    assert (tree / "second").read_text() == "one two"


def test_rename_noreplace(tree: Path) -> None:
    (tree / "one").write_text("one")
    (tree / "two").write_text("two")
    with fails(errno.EEXIST):
        rename_with(tree / "one", tree / "two", RENAME_NOREPLACE)
    with fails(errno.EEXIST):
        rename_with(tree / "one", tree / "one", RENAME_NOREPLACE)
    rename_with(tree / "one", tree / "three", RENAME_NOREPLACE)
    assert sorted(os.listdir(tree)) == ["three", "two"]
    assert (tree / "three").read_text() == "one"


def test_rename_exchange(tree: Path) -> None:
    (tree / "file").write_text("file")
    (tree / "left" / "directory" / "below").mkdir(parents=True)
    (tree / "right").mkdir()
    (tree / "right" / "file").write_text("other")
    with fails(errno.ENOENT):
        rename_with(tree / "file", tree / "missing", RENAME_EXCHANGE)
    rename_with(tree / "file", tree / "right" / "file", RENAME_EXCHANGE)
    assert (tree / "file").read_text() == "other"
    assert (tree / "right" / "file").read_text() == "file"
    rename_with(tree / "left" / "directory", tree / "right" / "file", RENAME_EXCHANGE)
    assert (tree / "left" / "directory").read_text() == "file"
    assert os.listdir(tree / "right" / "file") == ["below"]
    assert (tree / "left").stat().st_nlink == 2
    assert (tree / "right").stat().st_nlink == 3
    assert (tree / "right" / "file" / "..").stat().st_ino == (tree / "right").stat().st_ino
    with fails(errno.EINVAL):
        rename_with(tree / "file", tree / "right", RENAME_EXCHANGE | RENAME_NOREPLACE)


def test_hard_links_are_one_file(tree: Path) -> None:
    (tree / "one").write_text("content")
    os.link(tree / "one", tree / "two")
    (tree / "directory").mkdir()
    os.link(tree / "two", tree / "directory" / "three")
    statuses = [(tree / name).stat() for name in ("one", "two", "directory/three")]
    assert {(status.st_ino, status.st_nlink) for status in statuses} == {(statuses[0].st_ino, 3)}
    (tree / "directory" / "three").write_text("changed")
    (tree / "one").chmod(0o640)
    (tree / "one").unlink()
    assert (tree / "two").read_text() == "changed"
    assert stat.S_IMODE((tree / "directory" / "three").stat().st_mode) == 0o640
    assert (tree / "two").stat().st_nlink == 2
    with fails(errno.EPERM):
        os.link(tree / "directory", tree / "link")
    with fails(errno.ENOENT):
        os.link(tree / "missing", tree / "link")


def test_a_symbolic_link_can_be_hard_linked(tree: Path) -> None:
    (tree / "symlink").symlink_to("nowhere")
    os.link(tree / "symlink", tree / "second", follow_symlinks=False)
    assert os.readlink(tree / "second") == "nowhere"
    assert os.lstat(tree / "second").st_nlink == 2


def test_symbolic_links_lead(tree: Path) -> None:
    (tree / "directory").mkdir()
    (tree / "directory" / "file").write_text("content")
    (tree / "relative").symlink_to("directory/file")
    (tree / "absolute").symlink_to(tree / "directory")
    (tree / "directory" / "up").symlink_to("../relative")
    assert (tree / "relative").read_text() == "content"
    assert (tree / "absolute" / "up").read_text() == "content"
    with fails(errno.ELOOP):
        os.open(tree / "relative", os.O_RDONLY | os.O_NOFOLLOW)
    os.rename(tree / "directory", tree / "moved")
    with fails(errno.ENOENT):
        (tree / "relative").read_text()
    (tree / "relative").unlink()
    assert (tree / "moved" / "file").read_text() == "content"


def test_symbolic_link_loops_end(tree: Path) -> None:
    (tree / "one").symlink_to("two")
    (tree / "two").symlink_to("one")
    (tree / "self").symlink_to("self/self")
    for name in ("one", "two", "self"):
        with fails(errno.ELOOP):
            (tree / name).stat()
        with fails(errno.ELOOP):
            os.open(tree / name, os.O_CREAT | os.O_WRONLY)
        assert stat.S_ISLNK(os.lstat(tree / name).st_mode)


def test_creating_through_a_dangling_link_creates_its_target(tree: Path) -> None:
    (tree / "link").symlink_to("target")
    (tree / "link").write_text("content")
    assert (tree / "target").read_text() == "content"
    assert os.readlink(tree / "link") == "target"


@pytest.mark.parametrize("length", [1, 59, 60, 255, 256, 4095])
def test_symbolic_link_targets_of_every_length(tree: Path, length: int) -> None:
    target = (b"\xff\x01 target/" * 512)[:length]
    link = os.path.join(os.fsencode(tree), b"link")
    os.symlink(target, link)
    assert os.readlink(link) == target
    assert os.lstat(link).st_size == length


def test_symbolic_link_targets_have_limits(tree: Path) -> None:
    with fails(errno.ENAMETOOLONG):
        os.symlink("t" * 4096, tree / "link")
    with fails(errno.ENOENT):
        os.symlink("", tree / "link")
    (tree / "file").touch()
    with fails(errno.EINVAL):
        os.readlink(tree / "file")


def test_a_name_is_used_again_at_once(tree: Path) -> None:
    path = tree / "name"
    for turn in range(50):
        path.write_text(str(turn))
        assert path.read_text() == str(turn)
        path.unlink()
        path.mkdir()
        (path / "below").touch()
        (path / "below").unlink()
        path.rmdir()
        path.symlink_to(str(turn))
        assert os.readlink(path) == str(turn)
        path.unlink()
    assert os.listdir(tree) == []
