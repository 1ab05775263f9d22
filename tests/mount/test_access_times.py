"""Access times: left alone by default, kept by the rules of the kernel's relatime with `-o relatime`."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .support import CLOCK_TICK_SECONDS, mount_only, on_host, opened
from .volumes import MountedVolume, mounted

SECOND = 10**9
DAY = 86_400 * SECOND


@pytest.fixture(scope="module")
def volume() -> Iterator[MountedVolume]:
    """The mount of this module's trees."""
    if on_host:
        pytest.skip("HELIOSFS_TEST_DIRECTORY is set: there is no mount")
    with mounted(["relatime"]) as served:
        yield served


def moves(path: Path, action: Callable[[], object]) -> bool:
    """Whether an action moves the access time, and nothing else."""
    before = path.lstat()
    time.sleep(CLOCK_TICK_SECONDS)
    action()
    after = path.lstat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    assert after.st_atime_ns >= before.st_atime_ns
    return after.st_atime_ns > before.st_atime_ns


def read_mapping(path: Path) -> None:
    with opened(path) as descriptor, mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapping:
        assert mapping[:1] != b""


@pytest.mark.parametrize("read", [Path.read_bytes, read_mapping])
def test_a_read_after_a_change_is_noted_once(tree: Path, read: Callable[[Path], object]) -> None:
    path = tree / "file"
    path.write_bytes(b"content" * 5_000)
    for change in (lambda: None, lambda: path.write_bytes(b"other"), lambda: path.chmod(0o600)):
        change()
        assert moves(path, lambda: read(path))
        assert not moves(path, lambda: read(path))


def test_an_old_access_time_is_brought_up_to_date(tree: Path) -> None:
    path = tree / "file"
    path.write_text("content")
    for access, moved in ((time.time_ns() - 2 * DAY, True), (time.time_ns() + DAY, False)):
        os.utime(path, ns=(access, SECOND))
        if moved:
            assert moves(path, path.read_text)
        else:
            path.read_text()
            assert path.stat().st_atime_ns == access


def test_an_open_file(tree: Path) -> None:
    path = tree / "file"
    with opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
        os.write(descriptor, b"content")
        assert moves(path, lambda: os.pread(descriptor, 7, 0))
        assert not moves(path, lambda: os.pread(descriptor, 7, 0))


def test_directories_and_symbolic_links(tree: Path) -> None:
    (tree / "directory").mkdir()
    (tree / "link").symlink_to("directory")
    for name, access in (("directory", os.listdir), ("link", os.readlink)):
        path = tree / name
        assert moves(path, lambda access=access, path=path: access(path))
        assert not moves(path, lambda access=access, path=path: access(path))
    (tree / "directory" / "file").touch()
    assert moves(tree / "directory", lambda: os.listdir(tree / "directory"))


@mount_only
def test_snapshots_keep_theirs(base: Path, tree: Path) -> None:
    (tree / "file").write_text("content")
    name = f"of-{tree.name}"
    (base / ".snapshots" / name).mkdir()
    path = base / ".snapshots" / name / tree.name / "file"
    assert not moves(path, path.read_text)
    assert not moves(path.parent, lambda: os.listdir(path.parent))


@mount_only
def test_by_default_they_are_left_alone(volume_mount: MountedVolume) -> None:
    path = volume_mount.path / "directory" / "file"
    path.parent.mkdir()
    path.write_text("content")
    (path.parent / "link").symlink_to("file")
    assert not moves(path, path.read_text)
    assert not moves(path.parent, lambda: os.listdir(path.parent))
    assert not moves(path.parent / "link", lambda: os.readlink(path.parent / "link"))
