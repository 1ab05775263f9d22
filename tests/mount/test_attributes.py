"""Attributes: modes and the set-id rules, owners, times to the nanosecond, link counts and inode numbers."""

from __future__ import annotations

import errno
import functools
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from .support import (
    AT_SYMLINK_NOFOLLOW,
    NOBODY,
    RENAME_EXCHANGE,
    UTIME_NOW,
    UTIME_OMIT,
    changed,
    fails,
    opened,
    rename_with,
    root_only,
    set_times,
    times,
    umask,
    user,
)

BOTH = {"modification", "change"}


def mode(path: Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


# Modes


@pytest.mark.parametrize("bits", [0, 0o1, 0o644, 0o777, 0o1777, 0o2755, 0o4755, 0o7777])
def test_every_mode_bit_is_kept(tree: Path, bits: int) -> None:
    (tree / "file").touch()
    (tree / "directory").mkdir()
    for name, kind in (("file", stat.S_IFREG), ("directory", stat.S_IFDIR)):
        (tree / name).chmod(bits)
        assert os.lstat(tree / name).st_mode == kind | bits
    (tree / "file").chmod(0o600)
    with opened(tree / "file") as descriptor:
        os.fchmod(descriptor, 0o755)
        assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o755


def test_chmod_follows_symbolic_links(tree: Path) -> None:
    (tree / "file").touch()
    (tree / "link").symlink_to("file")
    (tree / "link").chmod(0o600)
    assert mode(tree / "file") == 0o600
    assert mode(tree / "link") == 0o777


@root_only
def test_writing_takes_the_set_id_bits_away(tree: Path) -> None:
    tree.chmod(0o777)
    actions: dict[str, Callable[[Path], object]] = {
        "write": lambda path: _write(path, b"x"),
        "truncate": lambda path: os.truncate(path, 1),
        "open with O_TRUNC": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    }
    for name, action in actions.items():
        for before, after in ((0o6777, 0o0777), (0o4777, 0o0777), (0o6767, 0o0767), (0o2777, 0o0777)):
            path = tree / f"{name} {before:o}"
            path.write_text("content")
            path.chmod(before)
            with user():
                action(path)
            assert mode(path) == after, f"{name} of {before:o}"
            path.chmod(before)
            os.chown(path, 0, NOBODY)
            path.chmod(before)
            with user():
                action(path)
            # Without execution by the group the bit stays for those who are in the group.
            assert mode(path) == (0o2767 if before == 0o6767 else after), f"{name} of {before:o} by a member"


@root_only
def test_root_keeps_the_set_id_bits_when_writing(tree: Path) -> None:
    path = tree / "file"
    path.write_text("content")
    path.chmod(0o6755)
    _write(path, b"x")
    assert mode(path) == 0o6755


@root_only
def test_chown_takes_the_set_id_bits_away(tree: Path) -> None:
    path = tree / "file"
    path.touch()
    path.chmod(0o6755)
    os.chown(path, 1000, 1000)
    assert mode(path) == 0o0755
    path.chmod(0o6755)
    with user(1000, 1000, [2000]):
        os.chown(path, -1, 2000)
    assert mode(path) == 0o0755
    assert (path.stat().st_uid, path.stat().st_gid) == (1000, 2000)
    os.mkfifo(tree / "fifo")
    (tree / "fifo").chmod(0o6755)
    os.chown(tree / "fifo", 1000, 1000)
    assert mode(tree / "fifo") == 0o0755
    (tree / "directory").mkdir()
    (tree / "directory").chmod(0o6755)
    os.chown(tree / "directory", 1000, 1000)
    assert mode(tree / "directory") == 0o6755


@root_only
def test_chmod_by_a_stranger_to_the_group_takes_set_gid_away(tree: Path) -> None:
    path = tree / "file"
    path.touch()
    os.chown(path, NOBODY, 1234)
    with user():
        path.chmod(0o2755)
    assert mode(path) == 0o0755
    with user(groups=[1234]):
        path.chmod(0o2755)
    assert mode(path) == 0o2755


@root_only
def test_a_set_gid_directory_hands_its_group_down(tree: Path) -> None:
    shared = tree / "shared"
    shared.mkdir()
    os.chown(shared, -1, 1234)
    shared.chmod(0o2777)
    with user(), umask(0o022):
        (shared / "file").touch()
        (shared / "directory").mkdir()
        (shared / "symlink").symlink_to("nowhere")
        os.mkfifo(shared / "fifo")
        with opened(shared / "program", os.O_CREAT | os.O_WRONLY, 0o2775):
            pass
    for name in ("file", "directory", "symlink", "fifo", "program"):
        assert os.lstat(shared / name).st_gid == 1234, name
        assert os.lstat(shared / name).st_uid == NOBODY, name
    assert mode(shared / "directory") == 0o2755
    assert mode(shared / "file") == 0o644
    assert mode(shared / "program") == 0o755  # not a member of the group, so no set-gid program for it
    (shared / "directory" / "below").mkdir()
    assert (shared / "directory" / "below").stat().st_gid == 1234
    assert mode(shared / "directory" / "below") & stat.S_ISGID
    (tree / "plain").mkdir()
    os.rename(tree / "plain", shared / "plain")
    assert (shared / "plain").stat().st_gid == os.getegid()


# Owners


@root_only
def test_owners_of_every_size(tree: Path) -> None:
    path = tree / "file"
    path.touch()
    for uid, gid in ((1, 2), (NOBODY, NOBODY), (100_000, 2**31), (2**32 - 2, 2**32 - 2)):
        os.chown(path, uid, gid)
        assert (path.stat().st_uid, path.stat().st_gid) == (uid, gid)
    os.chown(path, 5, -1)
    os.chown(path, -1, 6)
    os.chown(path, -1, -1)
    assert (path.stat().st_uid, path.stat().st_gid) == (5, 6)
    (tree / "link").symlink_to("file")
    os.lchown(tree / "link", 7, 8)
    assert (os.lstat(tree / "link").st_uid, path.stat().st_uid) == (7, 5)


def test_new_things_belong_to_their_maker(tree: Path) -> None:
    (tree / "file").touch()
    assert ((tree / "file").stat().st_uid, (tree / "file").stat().st_gid) == (os.geteuid(), os.getegid())


# Times


@pytest.mark.parametrize(
    "moment",
    [
        0,
        1,
        999_999_999,
        1_234_567_890_123_456_789,
        -1,
        -1_500_000_001,
        4_102_444_800_000_000_001,
        9_000_000_000_000_000_000,
    ],
)
def test_times_are_kept_to_the_nanosecond(tree: Path, moment: int) -> None:
    (tree / "file").touch()
    (tree / "directory").mkdir()
    (tree / "link").symlink_to("file")
    for name in ("file", "directory", "link"):
        os.utime(tree / name, ns=(moment, moment + 7), follow_symlinks=False)
        assert times(tree / name)[:2] == (moment, moment + 7)


@pytest.mark.parametrize("second", [1 << 35, 1 << 60, -(1 << 34), -(1 << 60)])
def test_times_far_away_become_what_can_be_kept(tree: Path, second: int) -> None:
    path = tree / "file"
    path.touch()
    os.utime(path, (second, second))
    kept = times(path)
    assert kept.access == kept.modification
    assert abs(kept.modification) >= (1 << 31) * 10**9
    assert (kept.modification < 0) == (second < 0)
    path.chmod(0o600)
    assert times(path)[:2] == kept[:2]


def test_parts_of_the_times(tree: Path) -> None:
    path = tree / "file"
    path.touch()
    os.utime(path, ns=(1_000, 2_000))
    set_times(path, (5, 6), (0, UTIME_OMIT))
    assert times(path)[:2] == (5_000_000_006, 2_000)
    set_times(path, (0, UTIME_OMIT), (7, 8))
    assert times(path)[:2] == (5_000_000_006, 7_000_000_008)
    set_times(path, (0, UTIME_NOW), (0, UTIME_OMIT))
    assert times(path).access > 1_600_000_000_000_000_000
    assert times(path).modification == 7_000_000_008
    set_times(path, (0, UTIME_NOW), (0, UTIME_NOW))
    assert abs(times(path).modification - times(path).change) < 10_000_000_000
    with fails(errno.EINVAL):
        set_times(path, (0, 1_000_000_000), (0, 0))
    (tree / "link").symlink_to("file")
    set_times(tree / "link", (1, 1), (2, 2), AT_SYMLINK_NOFOLLOW)
    assert times(tree / "link")[:2] == (1_000_000_001, 2_000_000_002)
    assert times(path).modification != 2_000_000_002


def _write(path: Path, data: bytes) -> None:
    with opened(path, os.O_WRONLY) as descriptor:
        os.write(descriptor, data)


def test_changes_of_a_file_move_its_times(tree: Path) -> None:
    path = tree / "file"
    path.write_text("content")
    assert changed(path, lambda: _write(path, b"x")) == BOTH
    assert changed(path, lambda: os.truncate(path, 3)) == BOTH
    assert changed(path, lambda: os.truncate(path, 100)) == BOTH
    assert changed(path, lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))) == BOTH
    assert changed(path, lambda: path.chmod(0o600)) == {"change"}
    assert changed(path, lambda: os.chown(path, os.geteuid(), os.getegid())) == {"change"}
    assert changed(path, lambda: os.link(path, tree / "second")) == {"change"}
    assert changed(path, lambda: os.unlink(tree / "second")) == {"change"}
    assert changed(path, lambda: os.utime(path, ns=(1, 1))) == {"change"}
    assert changed(path, lambda: os.setxattr(path, "user.name", b"value")) == {"change"}
    assert changed(path, lambda: os.removexattr(path, "user.name")) == {"change"}
    assert changed(path, lambda: path.rename(tree / "moved").rename(path)) <= {"change"}
    with opened(path, os.O_RDWR) as descriptor:
        assert changed(descriptor, path.unlink) == {"change"}
        assert changed(descriptor, lambda: os.write(descriptor, b"more")) == BOTH


def test_changes_that_change_little_move_the_times_too(tree: Path) -> None:
    path, other = tree / "file", tree / "other"
    path.write_text("content")
    os.link(path, tree / "second")
    other.mkdir()
    (tree / "symlink").symlink_to("file")
    assert changed(path, lambda: os.truncate(path, 7)) == BOTH
    with opened(path, os.O_RDWR) as descriptor:
        assert changed(descriptor, lambda: os.pwrite(descriptor, b"content", 0)) == BOTH
        assert changed(descriptor, lambda: os.pwrite(descriptor, b"", 0)) == set()
        assert changed(descriptor, lambda: os.ftruncate(descriptor, 7)) == BOTH
        with mmap.mmap(descriptor, 7) as mapping:
            assert changed(descriptor, lambda: (mapping.write(b"C"), mapping.flush())) == BOTH
        assert changed(descriptor, lambda: os.fchmod(descriptor, 0o644)) == {"change"}
        assert changed(descriptor, lambda: os.utime(descriptor, ns=(1, 1))) == {"change"}
    os.truncate(path, 0)
    assert changed(path, lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))) == BOTH
    assert changed(path, lambda: path.rename(other / "moved").rename(path)) <= {"change"}
    (tree / "new").touch()
    assert changed(path, lambda: os.rename(tree / "new", tree / "second")) == {"change"}
    for action in (
        lambda: os.lchown(tree / "symlink", os.geteuid(), os.getegid()),
        lambda: os.utime(tree / "symlink", ns=(1, 1), follow_symlinks=False),
        lambda: os.link(tree / "symlink", tree / "symlink-too", follow_symlinks=False),
    ):
        assert changed(tree / "symlink", action) == {"change"}
    for action in (lambda: other.chmod(0o700), lambda: os.setxattr(other, "user.name", b"value")):
        assert changed(other, action) == {"change"}
    (other / "file").touch()
    exchange = functools.partial(rename_with, path, other / "file", RENAME_EXCHANGE)
    assert changed(tree, exchange) == changed(other, exchange) == BOTH


def test_looking_changes_nothing(tree: Path) -> None:
    path = tree / "file"
    path.write_text("content")

    def failing() -> None:
        with fails(errno.EEXIST):
            path.mkdir()
        with fails(errno.ENOENT):
            (tree / "missing").unlink()

    looks: list[Callable[[], object]] = [
        path.read_text,
        path.stat,
        lambda: os.listdir(tree),
        lambda: path.open("a").close(),
        failing,
    ]
    for look in looks:
        assert changed(path, look) == set()
        assert changed(tree, look) == set()


def test_changes_of_names_move_the_times_of_directories(tree: Path) -> None:
    (tree / "other").mkdir()
    (tree / "source").touch()
    actions: list[Callable[[], object]] = [
        lambda: (tree / "file").touch(),
        lambda: (tree / "directory").mkdir(),
        lambda: (tree / "symlink").symlink_to("nowhere"),
        lambda: os.link(tree / "source", tree / "link"),
        lambda: os.mkfifo(tree / "fifo"),
        lambda: os.rename(tree / "file", tree / "renamed"),
        lambda: os.rename(tree / "renamed", tree / "link"),
        lambda: os.rename(tree / "link", tree / "other" / "moved"),
        lambda: (tree / "symlink").unlink(),
        lambda: (tree / "directory").rmdir(),
    ]
    for action in actions:
        assert changed(tree, action) == BOTH
    assert changed(tree / "other", lambda: os.rename(tree / "other" / "moved", tree / "back")) == BOTH
    assert changed(tree, lambda: (tree / "back").write_text("content")) == set()
    assert changed(tree, lambda: (tree / "other" / "below").touch()) == set()


def test_a_new_file_has_one_time(tree: Path) -> None:
    before = times(tree)
    (tree / "file").touch()
    born = times(tree / "file")
    assert born.access == born.modification == born.change
    assert born.modification >= before.modification
    assert times(tree).modification >= born.modification


# Counts, sizes and numbers


def test_links_are_counted(tree: Path) -> None:
    path = tree / "file"
    path.touch()
    assert path.stat().st_nlink == 1
    for number in range(50):
        os.link(path, tree / f"link-{number}")
        assert path.stat().st_nlink == number + 2
    with opened(path) as descriptor:
        for number in range(50):
            os.unlink(tree / f"link-{number}")
        assert os.fstat(descriptor).st_nlink == 1
        path.unlink()
        assert os.fstat(descriptor).st_nlink == 0


def test_directories_count_their_directories(tree: Path) -> None:
    def links(path: Path) -> int:
        return path.stat().st_nlink

    if links(tree) < 2:
        pytest.skip("this host's filesystem does not count")
    assert links(tree) == 2
    (tree / "one").mkdir()
    (tree / "two").mkdir()
    (tree / "file").touch()
    assert (links(tree), links(tree / "one")) == (4, 2)
    (tree / "one" / "below").mkdir()
    assert (links(tree), links(tree / "one")) == (4, 3)
    os.rename(tree / "one" / "below", tree / "two" / "below")
    assert (links(tree / "one"), links(tree / "two")) == (2, 3)
    os.rename(tree / "one", tree / "two" / "below")
    assert (links(tree), links(tree / "two"), links(tree / "two" / "below")) == (3, 3, 2)
    with opened(tree / "two" / "below", os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        (tree / "two" / "below").rmdir()
        assert os.fstat(descriptor).st_nlink == 0
    (tree / "two").rmdir()
    assert links(tree) == 2


def test_inode_numbers_tell_files_apart(tree: Path) -> None:
    for number in range(300):
        (tree / f"file-{number}").touch()
    numbers = {(tree / f"file-{number}").stat().st_ino for number in range(300)}
    assert len(numbers) == 300
    assert max(numbers) < 2**53
    ino = (tree / "file-0").stat().st_ino
    os.rename(tree / "file-0", tree / "renamed")
    assert (tree / "renamed").stat().st_ino == ino
    with os.scandir(tree) as entries:
        assert {entry.inode() for entry in entries} == numbers
    assert len({path.stat().st_dev for path in tree.iterdir()}) == 1


def test_sizes_and_blocks(tree: Path) -> None:
    path = tree / "file"
    path.touch()
    assert (path.stat().st_size, path.stat().st_blocks) == (0, 0)
    path.write_bytes(os.urandom(1_000_000))
    with path.open("rb") as file:
        os.fsync(file.fileno())
    assert path.stat().st_size == 1_000_000
    assert 1_000_000 <= path.stat().st_blocks * 512 < 1_300_000
    assert path.stat().st_blksize >= 512
