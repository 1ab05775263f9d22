"""A mistake of our own in a request, on a real mount: EIO for whoever asked, and everything else goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from .mistaken import NAME, TARGET
from .support import fails, mount_only
from .volumes import MountedVolume, heliosfs, scratch_directory

pytestmark = mount_only

TROUBLE = "requests failed by mistakes of HeliosFS: the log has the details"


@pytest.fixture
def mistaken() -> Iterator[MountedVolume]:
    with scratch_directory() as base:
        volume = MountedVolume(base)
        volume.module = "tests.mount.mistaken"
        try:
            volume.mount()
            yield volume
        finally:
            volume.close()


def test_a_mistake_is_eio_for_whoever_asked(mistaken: MountedVolume) -> None:
    root = mistaken.path
    (root / "before").write_bytes(b"before")
    assert mistaken.call("status")["troubles"] == []
    with open(root / "open", "wb", buffering=0) as file:
        for turn in range(3):
            with fails(errno.EIO):
                os.symlink(TARGET, root / "link")
            with fails(errno.EIO):
                (root / ".snapshots" / os.fsdecode(NAME)).mkdir()
            file.write(b"%d" % turn)
            os.fsync(file.fileno())
    assert not os.path.lexists(root / "link")
    os.symlink("elsewhere", root / "link")
    (root / ".snapshots" / "well").mkdir()
    assert sorted(os.listdir(root)) == ["before", "link", "open"]
    assert os.listdir(root / ".snapshots") == ["well"]
    assert (root / ".snapshots" / "well" / "open").read_bytes() == b"012"

    assert mistaken.call("status")["troubles"] == [TROUBLE]
    assert TROUBLE in heliosfs("status", root)
    assert mistaken.call("stats")["faults"]["mistakes"] == 6

    log = (mistaken.store / "log" / "heliosfs.log").read_text()
    assert log.count("ERROR") == log.count("Traceback") == 2, "each mistake once"
    assert log.count("\nLookupError: nobody thought of this target") == 1
    assert log.count("\nZeroDivisionError: nobody thought of this name") == 1
    line = next(line for line in log.splitlines() if "symlink(" in line)
    assert "b'link'" in line and os.fsdecode(TARGET) in line, "with its context"

    mistaken.unmount()
    mistaken.fsck()
    mistaken.mount()
    assert mistaken.call("status")["troubles"] == []
    assert (root / "before").read_bytes() == b"before" and os.readlink(root / "link") == "elsewhere"
