"""Permissions: what another user may and may not do, with and without the sticky bit and groups."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .support import NOBODY, fails, opened, root_only, user

pytestmark = root_only

OTHER = 12_345
GROUP = 23_456


def may(path: Path, want: str) -> bool:
    """Whether the acting user may; both by asking and by trying."""
    bits = {"r": os.R_OK, "w": os.W_OK, "x": os.X_OK}[want]
    allowed = os.access(path, bits, effective_ids=True)
    if want in "rw" and stat.S_ISREG(path.stat().st_mode):
        try:
            os.close(os.open(path, os.O_RDONLY if want == "r" else os.O_WRONLY))
            tried = True
        except PermissionError:
            tried = False
        assert tried == allowed
    return allowed


@pytest.mark.parametrize("want", ["r", "w", "x"])
def test_owner_group_and_others_have_their_bits(tree: Path, want: str) -> None:
    path = tree / "file"
    path.touch()
    os.chown(path, NOBODY, GROUP)
    bit = {"r": 4, "w": 2, "x": 1}[want]
    for owner, group, others in [
        (7, 0, 0),
        (0, 7, 0),
        (0, 0, 7),
        (0, 7, 7),
        (bit, bit, bit),
        (7 - bit, 7, 7),
    ]:
        path.chmod(owner << 6 | group << 3 | others)
        with user(NOBODY, NOBODY):
            assert may(path, want) == bool(owner & bit)
        with user(OTHER, OTHER, [GROUP]):
            assert may(path, want) == bool(group & bit)
        with user(OTHER, GROUP):
            assert may(path, want) == bool(group & bit)
        with user(OTHER, OTHER):
            assert may(path, want) == bool(others & bit)


def test_root_may_read_and_write_everything(tree: Path) -> None:
    path = tree / "file"
    path.write_text("content")
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0)
    assert path.read_text() == "content"
    path.write_text("changed")
    assert not os.access(path, os.X_OK)
    with fails(errno.EACCES):
        subprocess.run([path], check=False)


def test_a_directory_without_write_permission_is_left_alone(tree: Path) -> None:
    (tree / "file").touch()
    (tree / "file").chmod(0o666)
    (tree / "directory").mkdir()
    tree.chmod(0o755)
    actions: list[Callable[[], object]] = [
        lambda: os.open(tree / "new", os.O_CREAT | os.O_WRONLY),
        lambda: (tree / "new").mkdir(),
        lambda: (tree / "new").symlink_to("nowhere"),
        lambda: os.link(tree / "file", tree / "new"),
        lambda: os.mkfifo(tree / "new"),
        lambda: os.rename(tree / "file", tree / "new"),
        lambda: (tree / "file").unlink(),
        lambda: (tree / "directory").rmdir(),
    ]
    with user():
        for action in actions:
            with fails(errno.EACCES):
                action()
        (tree / "file").write_text("the file itself may be written")
    assert sorted(os.listdir(tree)) == ["directory", "file"]


def test_a_directory_needs_search_permission(tree: Path) -> None:
    directory = tree / "directory"
    directory.mkdir()
    (directory / "file").write_text("content")
    directory.chmod(0o444)
    with user():
        assert os.listdir(directory) == ["file"]
        with fails(errno.EACCES):
            (directory / "file").stat()
        with fails(errno.EACCES):
            os.chdir(directory)
    directory.chmod(0o711)
    with user():
        assert (directory / "file").read_text() == "content"
        with fails(errno.EACCES):
            os.listdir(directory)
    directory.chmod(0o700)
    with user():
        with fails(errno.EACCES):
            (directory / "file").read_text()
        with fails(errno.EACCES):
            (directory / "missing").stat()


def test_only_the_owner_changes_the_attributes(tree: Path) -> None:
    path = tree / "file"
    path.touch()
    path.chmod(0o666)
    with user():
        actions: list[Callable[[], object]] = [
            lambda: path.chmod(0o777),
            lambda: os.chown(path, NOBODY, -1),
            lambda: os.chown(path, -1, NOBODY),
            lambda: os.utime(path, ns=(1, 1)),
        ]
        for action in actions:
            with fails(errno.EPERM):
                action()
        os.utime(path)  # the present time: whoever may write
    path.chmod(0o644)
    with user(), fails(errno.EACCES):
        os.utime(path)
    os.chown(path, NOBODY, NOBODY)
    with user(groups=[GROUP]):
        path.chmod(0o600)
        os.utime(path, ns=(1, 1))
        os.chown(path, -1, GROUP)
        with fails(errno.EPERM):
            os.chown(path, OTHER, -1)
        with fails(errno.EPERM):
            os.chown(path, -1, OTHER)
    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, GROUP)


def test_a_sticky_directory_protects_what_others_made(tree: Path) -> None:
    shared = tree / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with user(OTHER, OTHER):
        (shared / "theirs").write_text("theirs")
        (shared / "theirs-too").mkdir()
    with user():
        (shared / "mine").write_text("mine")
        actions: list[Callable[[], object]] = [
            lambda: (shared / "theirs").unlink(),
            lambda: (shared / "theirs-too").rmdir(),
            lambda: os.rename(shared / "theirs", shared / "taken"),
            lambda: os.rename(shared / "mine", shared / "theirs"),
        ]
        for action in actions:
            with fails(errno.EPERM, errno.EACCES):
                action()
        os.rename(shared / "mine", shared / "renamed")
        (shared / "renamed").unlink()
    with user(OTHER, OTHER):
        (shared / "theirs").unlink()
    os.chown(shared, NOBODY, NOBODY)
    with user():
        (shared / "theirs-too").rmdir()  # the directory's owner may


def test_a_moved_directory_must_be_writable(tree: Path) -> None:
    """Its '..' changes: that is a write."""
    tree.chmod(0o777)
    (tree / "target").mkdir()
    (tree / "target").chmod(0o777)
    (tree / "directory").mkdir()
    with user():
        with fails(errno.EACCES):
            os.rename(tree / "directory", tree / "target" / "directory")
        os.rename(tree / "directory", tree / "renamed")
    (tree / "renamed").chmod(0o777)
    with user():
        os.rename(tree / "renamed", tree / "target" / "directory")


def test_supplementary_groups_count(tree: Path) -> None:
    os.chown(tree, 0, GROUP)
    tree.chmod(0o770)
    with user(OTHER, OTHER), fails(errno.EACCES):
        (tree / "file").touch()
    with user(OTHER, OTHER, [1, 2, 3, GROUP]):
        (tree / "file").touch()
        assert os.listdir(tree) == ["file"]
    assert (tree / "file").stat().st_gid == OTHER


def test_descriptors_keep_the_rights_they_were_opened_with(tree: Path) -> None:
    path = tree / "file"
    path.write_text("content")
    path.chmod(0o666)
    with user():
        descriptor = os.open(path, os.O_RDWR)
    path.chmod(0o600)
    try:
        with user():
            assert os.pread(descriptor, 7, 0) == b"content"
            os.pwrite(descriptor, b"C", 0)
            with fails(errno.EACCES):
                os.open(path, os.O_RDONLY)
    finally:
        os.close(descriptor)


def test_what_a_user_makes_belongs_to_that_user(tree: Path) -> None:
    tree.chmod(0o777)
    with user(OTHER, GROUP):
        (tree / "file").touch()
        (tree / "directory").mkdir()
        (tree / "link").symlink_to("file")
        with opened(tree / "exclusive", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400):
            pass
    for name in ("file", "directory", "link", "exclusive"):
        status = os.lstat(tree / name)
        assert (status.st_uid, status.st_gid) == (OTHER, GROUP)
