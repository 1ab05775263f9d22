"""A copy of a store whose daemon is halted meanwhile is as after a kill: all that was acknowledged is in it."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

from .shapes import SHAPES, Writer
from .support import mount_only
from .volumes import MountedVolume, scratch_directory

pytestmark = mount_only

TURNS = 30
"""Of each writer, before the copy is made."""


def test_a_copy_made_while_the_daemon_is_halted(volume_mount: MountedVolume, tmp_path: Path) -> None:
    writers = {name: Writer(name, volume_mount.path, tmp_path / name) for name in ("small", "append", "snapshots")}
    with scratch_directory() as base:
        copy = base / "store"
        try:
            for writer in writers.values():
                writer.start()
            while min(writer.turns() for writer in writers.values()) < TURNS:
                assert all(writer.runs() for writer in writers.values())
                time.sleep(0.02)
            signal.pidfd_send_signal(volume_mount.process, signal.SIGSTOP)
            try:
                while "\nState:\tT" not in Path(f"/proc/{volume_mount.pid}/status").read_text():
                    time.sleep(0.02)
                acknowledged = {name: writer.turns() for name, writer in writers.items()}
                shutil.copytree(volume_mount.store, copy, ignore=shutil.ignore_patterns("reserve"))
            finally:
                signal.pidfd_send_signal(volume_mount.process, signal.SIGCONT)
        finally:
            for writer in writers.values():
                writer.stop()
        copied = MountedVolume(base)
        try:
            copied.fsck()
            copied.mount()
            for name, turns in acknowledged.items():
                SHAPES[name](copied.path).check(turns)
        finally:
            copied.close()
