"""The filesystems on which work is done, all on the same disk: HeliosFS and what it is compared with.

A place is made once, before the first round, and taken down after the last. One that this machine cannot have
raises `Absent`, with the way to get it.
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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

TOP: Final = Path(__file__).resolve().parents[1]
COMMAND_SECONDS_MAX: Final = 300
EXAMPLES: Final = Path("/usr/share/doc/libfuse3-dev/examples")
BTRFS_BYTES: Final = 8 << 30
"""The size of the btrfs image, a sparse file: holds what the works leave at any time."""


SUBVOLUME_INO: Final = 256
"""The inode number of the root of every subvolume of btrfs."""

SETTLE_SECONDS: Final = 30
"""How long background work is waited for: a stream of 256 MiB takes about two."""

PRIORITY: Final = -15


def raise_priority(pid: int = 0) -> None:
    """Let a process go before others, where we may. A daemon has a session of its own, and the kernel's automatic
    groups share processors between sessions first: so both the process and its group are raised."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, PRIORITY)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid or 'self'}/autogroup").write_text(str(PRIORITY))


class Absent(RuntimeError):
    """This machine does not have it. The text says what to install."""


def run(*words: str | Path, directory: Path | None = None) -> str:
    """Run a program that must succeed; its output."""
    result = subprocess.run(
        [str(word) for word in words],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    if result.returncode:
        raise Absent(f"`{' '.join(map(str, words))}` failed: {result.stdout.strip()[-300:]}")
    return result.stdout


class Place:
    """A directory on some filesystem, with what can be told of it. This one is the host's own."""

    name = "host"
    title = "the host's filesystem, directly"
    ordinary = True
    """Whether the ordinary works are done on it."""
    checkpoints = False
    """Whether it can do what `checkpoints` measures, in its own way."""

    def __init__(self, base: Path) -> None:
        self.base = base / self.name
        self.base.mkdir()
        self.directory = self.base
        self.pid = 0
        """The process that answers for it, whose processor time is noted."""
        self.beside: list[Place] = []
        """More places that a work made for itself."""

    def requests(self) -> dict[str, int] | None:
        """Requests from the kernel so far, by kind; None where nobody counts them."""
        return None

    def processor_seconds(self) -> float:
        """What its process has used so far."""
        if not self.pid:
            return 0.0
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def settle(self) -> None:
        """Between two works: let what was put off be done."""

    def reopen(self) -> None:
        """Before a cold work: as after a start."""

    def remove(self, directory: Path) -> None:
        """A directory that works have used."""
        shutil.rmtree(directory)

    def close(self) -> None:
        for place in self.beside:
            place.close()
        shutil.rmtree(self.base, ignore_errors=True)


class Git(Place):
    """The host's filesystem with a repository in it: the usual way to keep states of a tree."""

    name = "git"
    title = "git on the host's filesystem: add -A and commit; worktree add"
    ordinary = False
    checkpoints = True

    def __init__(self, base: Path) -> None:
        if shutil.which("git") is None:
            raise Absent("there is no git (apt-get install git)")
        super().__init__(base)


class Mounted(Place):
    """A filesystem with a mountpoint of its own."""

    end_seconds = 2.0
    """How long its process may take to end once it is unmounted."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.directory = self.base / "mount"
        self.below = self.base / "below"
        self.directory.mkdir()
        self.below.mkdir()
        try:
            self.mount()
        except BaseException:
            self.close()
            raise
        if self.pid:
            raise_priority(self.pid)

    def mount(self) -> None:
        raise NotImplementedError

    def unmount(self) -> None:
        """Also when somebody is still in it: nothing of a benchmark may be left."""
        if os.path.ismount(self.directory):
            subprocess.run(["umount", str(self.directory)], check=False, stderr=subprocess.DEVNULL)
        if os.path.ismount(self.directory):
            subprocess.run(["umount", "-l", str(self.directory)], check=False)

    def close(self) -> None:
        for place in self.beside:
            place.close()
        self.beside.clear()
        self.unmount()
        if self.pid:
            _wait_for_end(self.pid, self.end_seconds)
        super().close()

    def find_pid(self, program: str, *words: str) -> None:
        """The process that serves this mount, by its command line."""
        for process in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                if os.path.basename(line[0]).decode() == program and all(word.encode() in line for word in words):
                    self.pid = int(process)


def _wait_for_end(pid: int, seconds: float) -> None:
    """The end of a process; some of libfuse's examples have to be told, though their mount is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    if not select.select([descriptor], [], [], seconds)[0]:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)


class Helios(Mounted):
    """A fresh volume of this checkout."""

    name = "heliosfs"
    title = "HeliosFS, this checkout"
    checkpoints = True
    end_seconds = 60.0
    options = ""

    def mount(self) -> None:
        self.store = self.below / "store"
        self._command("mount", self.store, self.directory, *(["-o", self.options] if self.options else []))
        self.pid = int(json.loads((self.directory / ".heliosfs" / "status").read_text())["pid"])

    def unmount(self) -> None:
        if self.pid:
            # Not `heliosfs umount`, which waits for every mount namespace that has a copy of this mount.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            _wait_for_end(self.pid, self.end_seconds)
        super().unmount()

    def reopen(self) -> None:
        self.unmount()
        self.mount()
        raise_priority(self.pid)

    def kill(self) -> None:
        """End the daemon without a warning."""
        os.kill(self.pid, signal.SIGKILL)
        _wait_for_end(self.pid, self.end_seconds)
        # A dead mount does not look like one to `os.path.ismount`.
        subprocess.run(["umount", "-l", str(self.directory)], check=False, stderr=subprocess.DEVNULL)

    def _command(self, *words: str | Path) -> None:
        run(sys.executable, "-m", "heliosfs", *words, directory=TOP)

    def call(self, verb: str, **arguments: Any) -> Any:
        """One request through the mount's control file."""
        descriptor = os.open(self.directory / ".heliosfs" / "call", os.O_RDWR)
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

    def requests(self) -> dict[str, int] | None:
        counted: dict[str, int] = self.call("stats")["requests"]
        return counted

    def settle(self) -> None:
        """Wait until nothing is left to do in the background."""
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until:
            left = self.call("stats")
            if not left["uncut_files"] and not left["unsealed_layers"]:
                return
            time.sleep(0.05)


class Passthrough(Mounted):
    """passthrough_ll, the C example of libfuse, with caches as long as ours."""

    name = "C"
    title = "C: passthrough_ll of libfuse on the host's filesystem, cache=always"
    program: Path | None = None
    """A built one, if it was given."""

    def mount(self) -> None:
        program = self.program or self._build()
        run(program, "-o", f"source={self.below},cache=always", self.directory)
        self.find_pid(program.name, str(self.directory))

    def _build(self) -> Path:
        source = EXAMPLES / "passthrough_ll.c"
        if not source.exists() or shutil.which("gcc") is None or shutil.which("pkg-config") is None:
            raise Absent("passthrough_ll cannot be built (apt-get install libfuse3-dev gcc pkg-config)")
        program = self.base / "passthrough_ll"
        flags = run("pkg-config", "fuse3", "--cflags", "--libs").split()
        run("gcc", "-O2", "-o", program, source, *flags)
        return program


class Bindfs(Mounted):
    """bindfs, a C filesystem by paths."""

    name = "bindfs"
    title = "bindfs on the host's filesystem"

    def mount(self) -> None:
        if shutil.which("bindfs") is None:
            raise Absent("there is no bindfs (apt-get install bindfs)")
        run("bindfs", self.below, self.directory)
        self.find_pid("bindfs", str(self.directory))


class Overlay(Mounted):
    """fuse-overlayfs over an empty lower directory."""

    name = "overlay"
    title = "fuse-overlayfs on the host's filesystem"

    def mount(self) -> None:
        if shutil.which("fuse-overlayfs") is None:
            raise Absent("there is no fuse-overlayfs (apt-get install fuse-overlayfs)")
        for part in ("lower", "upper", "work"):
            (self.below / part).mkdir()
        lower, upper, work = (self.below / part for part in ("lower", "upper", "work"))
        run("fuse-overlayfs", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", self.directory)
        self.find_pid("fuse-overlayfs", str(self.directory))


class Btrfs(Mounted):
    """btrfs in a file of the same disk: the filesystem of the kernel that has snapshots."""

    name = "btrfs"
    title = "btrfs on a loop device on the same disk"
    checkpoints = True

    def mount(self) -> None:
        if shutil.which("mkfs.btrfs") is None:
            raise Absent("there is no mkfs.btrfs (apt-get install btrfs-progs)")
        if os.geteuid() != 0:
            raise Absent("a loop device needs root")
        image = self.below / "image"
        with image.open("wb") as file:
            file.truncate(BTRFS_BYTES)
        run("mkfs.btrfs", "-q", image)
        run("mount", "-o", "loop", image, self.directory)

    def remove(self, directory: Path) -> None:
        # File by file, hundreds of snapshots would take minutes.
        subvolumes = [str(path) for path in directory.iterdir() if path.stat().st_ino == SUBVOLUME_INO]
        if subvolumes:
            run("btrfs", "subvolume", "delete", *subvolumes)
        super().remove(directory)


MEASURES: Final = {
    "fast_loop": "no",
    "long_timeouts": "no",
    "keep_freed_memory": "no",
    "read_ahead_kilobytes": "0",
    "own_mount": "no",
    "quiet_xattrs": "no",
    "silent_close": "no",
    "default_permissions": "no",
    "calm_collector": "no",
    "low_latency": "no",
}
"""Mount options, each with the value that leaves one of the measures out that make it fast. The one exception is
default_permissions, which is there although it costs something."""


def without(option: str) -> type[Helios]:
    """HeliosFS without one of its measures."""

    class Without(Helios):
        name = f"{option}={MEASURES[option]}"
        title = f"HeliosFS with {name}"
        checkpoints = False

        def mount(self) -> None:
            self.options = ",".join(filter(None, (Helios.options, self.name)))
            super().mount()

    return Without


PLACES: Final = (Helios, Place, Passthrough, Bindfs, Overlay, Btrfs, Git)


def by_name() -> dict[str, type[Place]]:
    """All places by their names."""
    return {place.name: place for place in PLACES}


@contextlib.contextmanager
def closing(places: list[Place]) -> Iterator[list[Place]]:
    """Take all places down at the end, the last one first, whatever happened."""
    try:
        yield places
    finally:
        for place in reversed(places):
            place.close()
