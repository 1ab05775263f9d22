"""A damaged object on a real mount: EIO for what needs it, words for people, and everything else goes on."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from .support import fails, mount_only
from .volumes import MountedVolume, heliosfs

pytestmark = mount_only

DATA = random.Random(1).randbytes(400_000)


def spoil(store: Path, content: bytes) -> None:
    """Flip a bit of stored content, where it lies as it is."""
    for pack in (store / "packs").iterdir():
        stored = bytearray(pack.read_bytes())
        at = stored.find(content)
        if at >= 0:
            stored[at] ^= 1
            pack.write_bytes(stored)
            return
    raise AssertionError("the content is in no pack as it is")


def test_damage_is_told_and_healed(volume_mount: MountedVolume) -> None:
    root, store = volume_mount.path, volume_mount.store
    (root / "hit").write_bytes(DATA)
    (root / "well").write_bytes(DATA[::-1])
    (root / ".snapshots" / "s").mkdir()
    volume_mount.unmount()
    spoil(store, DATA[1000:1050])
    told = heliosfs("fsck", store, status=1)
    assert "hit (inode" in told and "snapshot s" in told and "well" not in told
    volume_mount.mount()
    for tree in (root, root / ".snapshots" / "s"):
        with fails(errno.EIO):
            (tree / "hit").read_bytes()
        assert (tree / "well").read_bytes() == DATA[::-1]
    assert volume_mount.call("status")["troubles"] == ["damaged content was met: heliosfs fsck names the files"]
    assert "damaged object" in (store / "log" / "heliosfs.log").read_text()
    (root / "again").write_bytes(DATA)
    volume_mount.unmount()
    volume_mount.fsck()
    volume_mount.mount()
    for name in ("hit", "again", ".snapshots/s/hit"):
        assert (root / name).read_bytes() == DATA


@pytest.mark.parametrize("target", ["out", "out.tar", "out.tar.xz"])
def test_an_export_names_what_is_damaged(volume_mount: MountedVolume, tmp_path: Path, target: str) -> None:
    (volume_mount.path / "hit").write_bytes(DATA)
    volume_mount.unmount()
    spoil(volume_mount.store, DATA[1000:1050])
    volume_mount.mount()
    told = heliosfs("export", volume_mount.path, "now", tmp_path / target, status=1)
    assert told.startswith("heliosfs: ") and "/hit: Input/output error" in told and told.count("\n") == 1
    assert not (tmp_path / target).exists()
    (volume_mount.path / "again").write_bytes(DATA)
