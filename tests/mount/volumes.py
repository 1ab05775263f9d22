"""A volume mounted for a test: made by the command as a person would, and always cleaned up.

The daemon is found by the pid that its mount names, and only that process is ever killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND_TIMEOUT_SECONDS = 300


class CommandFailed(AssertionError):
    """A heliosfs command ended with another exit status than the test expected."""


def heliosfs(*arguments: str | Path, status: int | None = 0, module: str = "heliosfs") -> str:
    """Run the command and return its output; files instead of pipes, as a daemon may keep them open."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        result = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            timeout=COMMAND_TIMEOUT_SECONDS,
            check=False,
        )
        output.seek(0)
        errors.seek(0)
        text = output.read().decode(errors="surrogateescape")
        complaint = errors.read().decode(errors="surrogateescape")
    if status is not None and result.returncode != status:
        words = " ".join(map(str, arguments))
        raise CommandFailed(f"heliosfs {words}: exit {result.returncode}\n{text[-4000:]}\n{complaint[-4000:]}")
    return text if result.returncode == 0 else text + complaint


class MountedVolume:
    """STORE and MOUNT below one base directory, with the daemon that serves them."""

    def __init__(self, base: Path, options: Sequence[str] = (), small_limits: bool = False) -> None:
        self.base = base
        self.store = base / "store"
        self.path = base / "mount"
        self.path.mkdir(exist_ok=True)
        self.options = list(options)
        self.module = "tests.mount.small_limits" if small_limits else "heliosfs"
        self.process = -1  # a pidfd of the daemon, -1 when there is none
        self.pid = 0

    def mount(self, *arguments: str) -> None:
        assert self.process == -1
        options = [*self.options, *(["allow_other"] if os.geteuid() == 0 else [])]
        words = [*arguments, *(["-o", ",".join(options)] if options else [])]
        heliosfs("mount", self.store, self.path, *words, module=self.module)
        self.pid = int(json.loads((self.path / ".heliosfs" / "status").read_text())["pid"])
        self.process = os.pidfd_open(self.pid)

    def unmount(self) -> None:
        """The clean end: the command says when it is done, and the daemon is gone then."""
        heliosfs("umount", self.path)
        self._wait_for_end()

    def kill(self, detach: bool = True) -> None:
        """SIGKILL, as the kernel's OOM killer would, and take the dead mount away. While it is there writers fail, and
        afterwards they would write into the directory below."""
        signal.pidfd_send_signal(self.process, signal.SIGKILL)
        self._wait_for_end()
        if detach:
            self.detach()

    def fsck(self) -> str:
        """Offline; raises with what was found unless the store is sound."""
        assert self.process == -1
        return heliosfs("fsck", self.store)

    def remount(self) -> None:
        self.unmount()
        self.mount()

    def call(self, verb: str, at: Path | None = None, **arguments: Any) -> Any:
        """One request through `.heliosfs/call` of the mount's root or of another tree root."""
        descriptor = os.open((at or self.path) / ".heliosfs" / "call", os.O_RDWR)
        try:
            os.write(descriptor, json.dumps({"verb": verb, "arguments": arguments}).encode())
            parts = []
            while part := os.read(descriptor, 1 << 20):
                parts.append(part)
        finally:
            os.close(descriptor)
        answer = json.loads(b"".join(parts))
        if not answer["ok"]:
            raise OSError(answer["errno"], answer["error"])
        return answer["result"]

    def close(self) -> None:
        """Whatever state it is in: no mount, no process and no directory is left."""
        if self.process != -1:
            with contextlib.suppress(CommandFailed, subprocess.TimeoutExpired):
                heliosfs("umount", self.path)
            self.detach()
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.process, signal.SIGKILL)
            self._wait_for_end()
        self.detach()
        shutil.rmtree(self.base, ignore_errors=True)

    def _wait_for_end(self) -> None:
        ended, _, _ = select.select([self.process], [], [], COMMAND_TIMEOUT_SECONDS)
        assert ended, f"the daemon (pid {self.pid}) has not ended"
        os.close(self.process)
        self.process = -1

    def detach(self) -> None:
        """Take a dead mount away."""
        while self._listed():
            result = subprocess.run(
                ["fusermount3", "-uz", str(self.path)],
                stderr=subprocess.PIPE,
                check=False,
                timeout=COMMAND_TIMEOUT_SECONDS,
            )
            if result.returncode != 0:
                break

    def _listed(self) -> bool:
        return any(line.split()[4] == str(self.path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


@contextlib.contextmanager
def scratch_directory(parent: Path | None = None) -> Iterator[Path]:
    """A directory that other users can reach (pytest's own are private to one)."""
    base = Path(tempfile.mkdtemp(prefix="heliosfs-test-", dir=parent)).resolve()
    base.chmod(0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def mounted(options: Sequence[str] = (), small_limits: bool = False) -> Iterator[MountedVolume]:
    """A fresh volume; when the body succeeds, it must unmount cleanly and pass fsck."""
    with scratch_directory() as base:
        volume = MountedVolume(base, options, small_limits)
        try:
            volume.mount()
            yield volume
            if volume.process != -1:
                volume.unmount()
            volume.fsck()
        finally:
            volume.close()
