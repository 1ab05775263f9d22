"""`heliosfs gc` on a live mount and on a store that is not mounted."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .support import Child, mount_only, root_only, run, user
from .volumes import REPOSITORY, MountedVolume, heliosfs

pytestmark = mount_only

MEGABYTE = 1_000_000


def random_bytes(seed: int, length: int = MEGABYTE) -> bytes:
    return random.Random(seed).randbytes(length)


def packed(volume: MountedVolume) -> int:
    return sum(path.stat().st_size for path in (volume.store / "packs").iterdir())


def gc(place: Path, *arguments: str) -> dict[str, Any]:
    return json.loads(heliosfs("gc", place, "--json", *arguments))  # type: ignore[no-any-return]


def test_what_is_deleted_gives_its_space_back(volume_mount: MountedVolume) -> None:
    root = volume_mount.path
    (root / "kept").write_bytes(random_bytes(1))
    for number in range(5):
        (root / f"gone-{number}").write_bytes(random_bytes(10 + number))
    (root / ".snapshots" / "s").mkdir()
    for number in range(5):
        (root / f"gone-{number}").unlink()
    assert gc(root)["dead_bytes"] < MEGABYTE / 2, "the snapshot has them"
    assert packed(volume_mount) > 6 * MEGABYTE
    (root / ".snapshots" / "s").rmdir()
    assert gc(root)["dead_bytes"] < MEGABYTE / 2, "undo could bring the snapshot back"
    dry = gc(root, "--dry-run", "--keep-undo", "0")
    assert dry["freed_bytes"] == 0
    found = gc(root, "--keep-undo", "0")
    assert found["dead_bytes"] > 4.9 * MEGABYTE and found["freed_bytes"] > 4.9 * MEGABYTE
    assert packed(volume_mount) < 1.5 * MEGABYTE
    assert (root / "kept").read_bytes() == random_bytes(1)
    volume_mount.remount()
    assert (root / "kept").read_bytes() == random_bytes(1)


def test_a_snapshot_of_one_file_gives_its_space_back(volume_mount: MountedVolume) -> None:
    root = volume_mount.path
    (root / ".snapshots" / "one").write_bytes(random_bytes(1))
    assert (root / ".snapshots" / "one").read_bytes() == random_bytes(1)
    (root / ".snapshots" / "one").unlink()
    gc(root, "--keep-undo", "0")
    assert packed(volume_mount) < MEGABYTE / 2


def test_a_store_that_is_not_mounted(volume_mount: MountedVolume) -> None:
    (volume_mount.path / "kept").write_bytes(random_bytes(1))
    (volume_mount.path / "gone").write_bytes(random_bytes(2, 3 * MEGABYTE))
    run("sync", "-f", volume_mount.path)
    volume_mount.remount()
    (volume_mount.path / "gone").unlink()
    volume_mount.unmount()
    assert gc(volume_mount.store, "--dry-run")["dead_bytes"] > 2.9 * MEGABYTE
    assert packed(volume_mount) > 3.9 * MEGABYTE
    assert "gone. The disk has" in heliosfs("gc", volume_mount.store)
    assert packed(volume_mount) < 1.2 * MEGABYTE
    volume_mount.fsck()
    volume_mount.mount()
    assert (volume_mount.path / "kept").read_bytes() == random_bytes(1)


def test_the_store_of_a_mount_will_do_as_well(volume_mount: MountedVolume) -> None:
    assert gc(volume_mount.store)["phase"] == "done"
    said = heliosfs("gc", volume_mount.base / "nowhere", status=1)
    assert "there is no store and no mount" in said


WRITER = r'''
import os, random, sys
number = 0
while not os.path.exists("stop"):
    number += 1
    data = random.Random(number % 7).randbytes(40_000)
    with open(f"w{number % 50}", "wb") as file:
        file.write(data)
    with open(f"w{number % 50}", "rb") as file:
        assert file.read() == data, number
print(number)
'''


def test_beside_live_traffic(volume_mount: MountedVolume) -> None:
    root = volume_mount.path
    with Child(WRITER, cwd=root) as writer:
        for turn in range(3):
            (root / "big").write_bytes(random_bytes(turn))
            (root / ".snapshots" / "s").mkdir()
            (root / "big").unlink()
            (root / ".snapshots" / "s").rmdir()
            gc(root, "--keep-undo", "0")
        (root / "stop").touch()
        assert int(writer.finish()) > 0
    for path in root.glob("w*"):
        assert path.read_bytes() in [random_bytes(seed, 40_000) for seed in range(7)]


def test_killed_during_a_collection(volume_mount: MountedVolume) -> None:
    root = volume_mount.path
    for turn in range(3):
        for number in range(20):
            (root / f"f{number}").write_bytes(random_bytes(turn * 100 + number, 100_000))
        descriptor = os.open(root / ".heliosfs" / "call", os.O_RDWR)
        try:
            os.write(descriptor, json.dumps({"verb": "gc", "arguments": {"wait": False}}).encode())
        finally:
            volume_mount.kill()
            with contextlib.suppress(OSError):  # close tells that the mount is gone
                os.close(descriptor)
        volume_mount.mount()
        for number in range(20):
            assert (root / f"f{number}").read_bytes() == random_bytes(turn * 100 + number, 100_000)


def test_interrupted_by_its_user(volume_mount: MountedVolume) -> None:
    for number in range(200):
        (volume_mount.path / f"f{number}").write_bytes(random_bytes(number, 5000))
    command = [sys.executable, "-m", "heliosfs", "gc", str(volume_mount.path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    # Before our own code runs it is the interpreter that ends.
    assert process.returncode in (130, 0, -signal.SIGINT) or b"KeyboardInterrupt" in errors, errors
    assert volume_mount.call("gc")["phase"] == "done"


def test_stopped_by_the_verb(volume_mount: MountedVolume) -> None:
    status = volume_mount.call("gc", wait=False)
    assert status["running"] is True
    volume_mount.call("gc.stop")
    while volume_mount.call("gc.status")["running"]:
        pass
    last = volume_mount.call("gc.status")["last"]
    assert last["number"] == status["number"]
    assert "stopped" in last.get("error", "stopped")
    assert volume_mount.call("status")["troubles"] == []


@root_only
def test_it_is_for_the_owner(volume_mount: MountedVolume) -> None:
    volume_mount.path.chmod(0o777)
    with user(), pytest.raises(OSError, match="for the owner") as refused:
        volume_mount.call("gc")
    assert refused.value.errno == errno.EPERM
    with user(), pytest.raises(OSError, match="for the owner"):
        volume_mount.call("gc.stop")


def test_wrong_arguments(volume_mount: MountedVolume) -> None:
    for keep in (-1, "x", True, [1]):
        with pytest.raises(OSError, match="number of seconds"):
            volume_mount.call("gc", keep_undo_seconds=keep)
    assert "keep-undo" in heliosfs("gc", volume_mount.path, "--keep-undo", "-1", status=2)


def test_in_a_read_only_mount(volume_mount: MountedVolume) -> None:
    volume_mount.unmount()
    volume_mount.mount("--read-only")
    assert "is read-only" in heliosfs("gc", volume_mount.path, status=1)
