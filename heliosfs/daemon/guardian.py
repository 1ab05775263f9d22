"""A process beside the daemon that ends the mount when the daemon was killed and cannot die.

Threads of the daemon make requests to its own mount: they have dirty pages written back, and the kernel forget files.
When the daemon is killed then, such a thread waits in the kernel for an answer that nobody will give. So the process
does not end, its connection stays open, and everyone who uses the mount hangs. The guardian holds nothing of the
daemon and outlives it. It aborts the connection, which ends the wait; the mount is then a dead one like that of any
killed daemon.

The kernel tells it when the daemon's first thread has ended: the others may be in that trap.
"""

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from heliosfs.daemon import mounts

GRACE_SECONDS = 2.0
"""How long the kernel may take to clear away a process that does end."""
LOOK_SECONDS = 0.05

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_MNT_FORCE = 1
_TOLD = signal.SIGUSR2
_IGNORED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
"""Meant for the daemon, and sent to its whole process group or service."""

_libc = ctypes.CDLL(None, use_errno=True)


def start(mountpoint: str) -> None:
    """Guard this process; does so when this returns. To be called by its first thread, before there are others."""
    daemon = os.getpid()
    ready, on_guard = os.pipe()
    if os.fork() == 0:
        try:
            _guard(daemon, mountpoint)
        finally:
            os._exit(1)
    os.close(on_guard)
    # A daemon killed before the kernel was asked to tell would not be noticed: the child of a process that cannot
    # die stays its child. So there is nothing that it could hang in until the guardian has let go of the pipe.
    os.read(ready, 1)
    os.close(ready)


def _guard(daemon: int, mountpoint: str) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_BLOCK, {_TOLD, *_IGNORED})
    _libc.prctl(_PR_SET_NAME, b"heliosfs-guard", 0, 0, 0)
    _libc.prctl(_PR_SET_PDEATHSIG, int(_TOLD), 0, 0, 0)
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            os.close(int(descriptor))
    while os.getppid() == daemon and signal.sigwait({_TOLD, *_IGNORED}) != _TOLD:
        pass
    deadline = time.monotonic() + GRACE_SECONDS
    while not has_ended(daemon):
        if time.monotonic() > deadline:
            abort(mountpoint)
            break
        time.sleep(LOOK_SECONDS)
    os._exit(0)


def has_ended(process: int) -> bool:
    """Whether no thread of a process is left but such as are gone and only counted still."""
    try:
        threads = os.listdir(f"/proc/{process}/task")
    except OSError:
        return True
    return not any(_state(process, thread) not in "ZX" for thread in threads)


def _state(process: int, thread: str) -> str:
    try:
        # The name in brackets may hold anything.
        return Path(f"/proc/{process}/task/{thread}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return "X"


def abort(mountpoint: str) -> None:
    """End the connection of a mount: every request that waits for an answer fails."""
    for mount in mounts.mounts():
        if mount.mountpoint == mountpoint:
            with suppress(OSError):
                Path(f"/sys/fs/fuse/connections/{os.minor(mount.device)}/abort").write_text("1")
                return
    # Where the control filesystem is not mounted. Needs root; the mount itself stays while it is in use.
    _libc.umount2(os.fsencode(mountpoint), _MNT_FORCE)
