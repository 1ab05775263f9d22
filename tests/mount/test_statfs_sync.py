"""The room that statfs tells of, and syncing by every call there is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .support import libc, mount_only, opened, run, tool
from .volumes import MountedVolume


def test_statfs_is_plausible(tree: Path) -> None:
    room = os.statvfs(tree)
    assert room.f_namemax == 255
    assert room.f_bsize >= 512
    assert 0 < room.f_bavail <= room.f_bfree <= room.f_blocks
    assert room.f_files >= room.f_ffree > 0
    run("df", tree)
    run("df", "-i", tree)


@mount_only
def test_the_room_is_the_hosts(volume: MountedVolume) -> None:
    """Others write to the host at the same time, so only the order of magnitude can be the same."""
    ours, host = os.statvfs(volume.path), os.statvfs(volume.store)
    free, host_free = ours.f_bavail * ours.f_frsize, host.f_bavail * host.f_frsize
    assert abs(free - host_free) < host_free / 10 + (1 << 30)
    assert abs(ours.f_blocks * ours.f_frsize - host.f_blocks * host.f_frsize) < host.f_blocks * host.f_frsize / 10


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDONLY, os.O_WRONLY | os.O_APPEND])
def test_files_are_synced(tree: Path, flags: int) -> None:
    path = tree / "file"
    path.write_bytes(os.urandom(200_000))
    with opened(path, flags) as descriptor:
        os.fsync(descriptor)
        os.fdatasync(descriptor)
        assert libc.syncfs(descriptor) == 0
        path.unlink()
        os.fsync(descriptor)


def test_directories_are_synced(tree: Path) -> None:
    (tree / "directory").mkdir()
    for directory in (tree, tree / "directory"):
        with opened(directory, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            os.fsync(descriptor)
            os.fdatasync(descriptor)
    os.sync()


def test_the_sync_command(tree: Path) -> None:
    tool("sync")
    (tree / "file").write_text("content")
    run("sync", tree / "file")
    run("sync", "-d", tree / "file")
    run("sync", "-f", tree)
    assert (tree / "file").read_text() == "content"


def test_syncing_while_others_write(tree: Path) -> None:
    with (
        opened(tree / "one", os.O_CREAT | os.O_RDWR) as one,
        opened(tree / "two", os.O_CREAT | os.O_RDWR) as two,
    ):
        for number in range(30):
            os.pwrite(one, b"%8d" % number, number * 8)
            os.pwrite(two, b"%8d" % number, number * 8)
            os.fsync(one if number % 2 else two)
    assert (tree / "one").read_bytes() == (tree / "two").read_bytes()
    assert len((tree / "one").read_bytes()) == 240
