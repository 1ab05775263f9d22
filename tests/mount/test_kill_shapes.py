"""Kills under the load of many shapes of writers, round after round on one volume. See `shapes`.

HELIOSFS_TEST_KILL_ROUNDS=N runs more rounds.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from .shapes import SHAPES, Writer
from .support import mount_only
from .volumes import MountedVolume

pytestmark = mount_only

ROUNDS = int(os.environ.get("HELIOSFS_TEST_KILL_ROUNDS", "2"))
TURNS_MAX = 40
"""Of the fastest writer, before the kill comes."""


def test_kills_under_load(volume_mount: MountedVolume, tmp_path: Path) -> None:
    root = volume_mount.path
    writers = {name: Writer(name, root, tmp_path / name) for name in SHAPES}
    for number in range(ROUNDS):
        choose = random.Random(number)
        try:
            for writer in writers.values():
                writer.start()
            # When the kill comes is chance anyway.
            enough = choose.randrange(5, TURNS_MAX)
            while not all(writer.has_begun() for writer in writers.values()) or enough > max(
                writer.turns() for writer in writers.values()
            ):
                for name, writer in writers.items():
                    assert writer.runs(), f"{name} in round {number}: {writer.failure()}"
                time.sleep(0.02)
            volume_mount.kill()
            for writer in writers.values():
                writer.wait()
        finally:
            for writer in writers.values():
                writer.stop()
        volume_mount.mount()
        for writer in writers.values():
            writer.shape.check(writer.done)
        volume_mount.unmount()
        volume_mount.fsck()
        volume_mount.mount()
        for writer in writers.values():
            writer.shape.check(writer.done)
    print({name: writer.done for name, writer in writers.items()})
