"""Sparse files take no room in the store, whatever happens to them; and what there is instead of fallocate."""

from __future__ import annotations

import ctypes
import errno
import os
import random
from pathlib import Path

import pytest

from .support import checked, libc, mount_only, on_host, opened, run, tool
from .volumes import MountedVolume, heliosfs

MIB = 1 << 20
GIB = 1 << 30
FALLOCATE_MODES = {
    "allocate": 0, "keep size": 1, "punch a hole": 3, "collapse": 8, "zero": 16, "insert": 32,
}  # fmt: skip


def used(store: Path) -> int:
    """The room that a store takes, without the reserve that it keeps for full disks."""
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "reserve"]
    return sum(path.stat().st_blocks * 512 for path in files)


@mount_only
def test_holes_take_no_room_in_the_store(volume_mount: MountedVolume) -> None:
    path = volume_mount.path / "file"
    part = random.Random(1).randbytes(100_000)
    heliosfs("sync", volume_mount.path)
    before = used(volume_mount.store)
    with opened(path, os.O_CREAT | os.O_RDWR) as descriptor:
        for place in range(4):
            os.pwrite(descriptor, part[place:], place * 10 * GIB + 12_345)
        os.ftruncate(descriptor, 1 << 40)
    (volume_mount.path / ".snapshots" / "s").mkdir()
    with opened(path, os.O_RDWR) as descriptor:
        os.pwrite(descriptor, b"changed", 20 * GIB)
        os.ftruncate(descriptor, 15 * GIB)
        os.ftruncate(descriptor, 1 << 40)
    blocks = path.stat().st_blocks
    assert 200_000 <= blocks * 512 <= 220_000
    volume_mount.remount()
    assert used(volume_mount.store) - before < 4 * MIB
    for tree, parts in ((volume_mount.path, 2), (volume_mount.path / ".snapshots" / "s", 4)):
        assert (tree / "file").stat().st_size == 1 << 40
        assert 0 <= (tree / "file").stat().st_blocks * 512 - parts * 100_000 < 20_000
        with opened(tree / "file") as descriptor:
            assert os.pread(descriptor, 200_000, 10 * GIB) == bytes(12_345) + part[1:] + bytes(200_000 - 112_344)
            assert os.pread(descriptor, 100, 900 * GIB) == bytes(100)
    assert path.stat().st_blocks == blocks


@pytest.mark.parametrize("how", ["always", "auto", "never"])
def test_cp_with_and_without_holes(tree: Path, how: str) -> None:
    tool("cp")
    with opened(tree / "source", os.O_CREAT | os.O_RDWR) as descriptor:
        os.pwrite(descriptor, random.Random(2).randbytes(MIB), 3 * MIB)
        os.pwrite(descriptor, bytes(MIB), 5 * MIB)
        os.ftruncate(descriptor, 8 * MIB)
    run("cp", f"--sparse={how}", "--preserve=all", "--reflink=auto", "source", "target", cwd=tree)
    run("cmp", "source", "target", cwd=tree)
    os.sync()
    allocated = (tree / "target").stat().st_blocks * 512
    if how == "always":
        assert allocated < 2 * MIB
    elif how == "never":
        assert allocated >= 8 * MIB
    assert (tree / "target").stat().st_mtime_ns == (tree / "source").stat().st_mtime_ns


@pytest.mark.parametrize("mode", FALLOCATE_MODES)
def test_fallocate_is_refused_in_the_documented_way(tree: Path, mode: str) -> None:
    path = tree / "file"
    path.write_bytes(b"content" * 10_000)
    size = [ctypes.c_int64(4096), ctypes.c_int64(8192)]
    with opened(path, os.O_RDWR) as descriptor:
        try:
            checked(libc.fallocate(descriptor, FALLOCATE_MODES[mode], *size))
        except OSError as error:
            assert error.errno == errno.EOPNOTSUPP
            assert path.read_bytes() == b"content" * 10_000
        else:
            assert on_host


def test_programs_fall_back(tree: Path) -> None:
    """They ask for holes or room, hear EOPNOTSUPP, and do without."""
    (tree / "source").write_bytes(bytes(MIB) + b"content" + bytes(MIB))
    if on_host:
        return
    for words in (
        ["dd", "if=source", "of=target", "conv=sparse", "bs=64k"],
        ["tar", "--sparse", "-cf", "archive.tar", "source"],
        ["rsync", "--sparse", "source", "synced"],
        ["rsync", "--preallocate", "source", "allocated"],
        ["fallocate", "--posix", "--length", "1M", "filled"],
        ["truncate", "-s", "5M", "target"],
    ):
        tool(words[0])
        run(*words, cwd=tree)
    run("cmp", "source", "synced", cwd=tree)
    run("cmp", "source", "allocated", cwd=tree)
    assert (tree / "filled").read_bytes() == bytes(MIB)
    run("cmp", "-n", str(2 * MIB + 7), "source", "target", cwd=tree)
