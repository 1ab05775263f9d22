"""Mounting and unmounting: the life of the connection to the kernel.

We mount ourselves (mount(2) as root, otherwise through fusermount3, which has the right to) and give
libfuse the open device by way of a `Relay`. Where any step of that fails pyfuse3 mounts in its own way.
"""

import ctypes
import logging
import os
import socket
import subprocess
from collections.abc import Callable
from typing import Final

import pyfuse3

from heliosfs.base.errors import HeliosError
from heliosfs.fuse import mount_table
from heliosfs.fuse.loop import RequestLoop
from heliosfs.fuse.options import Options
from heliosfs.fuse.relay import ACLS, NAMES, HandshakeFailed, Relay

log = logging.getLogger(__name__)

TYPE: Final = "heliosfs"
DEVICE: Final = "/dev/fuse"
HELPER: Final = "fusermount3"

_MS_RDONLY: Final = 1
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_NOEXEC: Final = 8
_MS_NOATIME: Final = 1024
_MNT_DETACH: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)


class Session:
    """One mount of one volume."""

    def __init__(self, mountpoint: str, source: str, options: Options) -> None:
        self.mountpoint = os.path.abspath(mountpoint)
        self.relay: Relay | None = None
        self.device = ""
        """major:minor of the mounted filesystem, once it is mounted."""
        self.own_failure = ""
        """Why our own way of mounting failed, if it did."""
        self._source = source
        self._options = options
        self._initialized = False

    def start(self, operations: pyfuse3.Operations, loop: RequestLoop, established: Callable[[], None]) -> None:
        """Mount, and leave pyfuse3 ready for `main`. Calls `established` at the end of a handshake of our
        own; otherwise it is the end of `operations.init`."""
        if self._options.own_mount and self._options.fast_loop:
            try:
                relay = Relay(self._mount(), ACLS if self._options.acl else 0)
            except OSError as error:
                self.own_failure = str(error)
                log.warning("mounting through pyfuse3, because our own way failed: %s", error)
            else:
                if loop.install(lambda: _step(relay, established)):
                    self.relay = relay
                    self._init(operations, f"/dev/fd/{relay.descriptor}", set())
                    return
                relay.abandon()
                self._unmount(lazy=True)
        self.start_plain(operations, loop)

    def start_plain(self, operations: pyfuse3.Operations, loop: RequestLoop) -> None:
        """Mount in pyfuse3's own way."""
        self.relay = None
        if self._options.acl:
            why = f", which failed: {self.own_failure}" if self.own_failure else ""
            raise HeliosError(f"cannot mount at {self.mountpoint}: acl needs own_mount and fast_loop{why}")
        if self._options.fast_loop:
            loop.install()
        self._init(operations, self.mountpoint, set(self._option_words()))

    def give_up(self, error: HandshakeFailed) -> None:
        """Undo a start whose handshake failed."""
        log.warning("mounting through pyfuse3, because the handshake failed: %s", error)
        assert self.relay is not None
        self.own_failure = str(error)
        self.relay.abandon()
        self._unmount(lazy=True)
        self.close()

    def close(self) -> None:
        """Free the session; nothing may be mounted any more, or it stays behind as a dead mount."""
        if self._initialized:
            self._initialized = False
            pyfuse3.close(unmount=False)

    def unmount(self) -> bool:
        """Unmount, out of sight at once if someone still uses it. For a worker thread: the kernel writes
        dirty pages back first. False if it was in use, so that it ends with its last user."""
        if self._unmount(lazy=False):
            return True
        self._unmount(lazy=True)
        return False

    def descriptor(self) -> int:
        """The open device, for notifications of our own; -1 when it cannot be told."""
        if self.relay is not None:
            return self.relay.descriptor
        found = [int(name) for name in os.listdir("/proc/self/fd") if _link(f"/proc/self/fd/{name}") == DEVICE]
        return found[0] if len(found) == 1 else -1

    def features(self) -> dict[str, bool]:
        """What the kernel was told to do, by name."""
        active = self.relay.active if self.relay is not None else 0
        return {name: bool(active & flag) for flag, name in NAMES.items()}

    def _init(self, operations: pyfuse3.Operations, mountpoint: str, words: set[str]) -> None:
        pyfuse3.init(operations, mountpoint, words)
        self._initialized = True
        self.device = mount_table.device_at(self.mountpoint)

    def _unmount(self, lazy: bool) -> bool:
        """Unmount what is ours: somebody may have unmounted it and put something else there."""
        if self.device and mount_table.device_at(self.mountpoint) != self.device:
            return True
        if os.geteuid() == 0:
            path = os.fsencode(self.mountpoint)
            return bool(_libc.umount2(path, _MNT_DETACH if lazy else 0) == 0)
        command = [HELPER, "-u", *(["-z"] if lazy else []), self.mountpoint]
        done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        return done.returncode == 0

    def _mount(self) -> int:
        """Mount; the open device."""
        return self._mount_directly() if os.geteuid() == 0 else self._mount_by_helper()

    def _mount_directly(self) -> int:
        options = self._options
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        words = [f"fd={device}", "rootmode=40000", f"user_id={os.getuid()}", f"group_id={os.getgid()}"]
        words += ["default_permissions"] * options.default_permissions + ["allow_other"] * options.allow_other
        flags = 0
        flags |= 0 if options.suid else _MS_NOSUID
        flags |= 0 if options.dev else _MS_NODEV
        flags |= 0 if options.exec else _MS_NOEXEC
        flags |= 0 if options.relatime else _MS_NOATIME
        flags |= _MS_RDONLY if options.read_only else 0
        source, target = os.fsencode(self._source), os.fsencode(self.mountpoint)
        if _libc.mount(source, target, f"fuse.{TYPE}".encode(), flags, ",".join(words).encode()) != 0:
            code = ctypes.get_errno()
            os.close(device)
            raise OSError(code, os.strerror(code), self.mountpoint)
        self.device = mount_table.device_at(self.mountpoint)
        return device

    def _mount_by_helper(self) -> int:
        """fusermount3 mounts and sends the open device through a socket."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours:
            with theirs:
                command = [HELPER, "-o", ",".join(self._option_words()), "--", self.mountpoint]
                environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
                done = subprocess.run(
                    command,
                    cwd="/",
                    env=environment,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    check=False,
                )
            if done.returncode != 0:
                raise OSError(done.stderr.decode(errors="replace").strip() or f"{HELPER} failed")
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        if not descriptors:
            raise OSError(f"{HELPER} sent no device")
        os.set_inheritable(descriptors[0], False)
        self.device = mount_table.device_at(self.mountpoint)
        return descriptors[0]

    def _option_words(self) -> list[str]:
        options = self._options
        words = [f"fsname={_escape(self._source)}", f"subtype={TYPE}"]
        words += ["default_permissions"] * options.default_permissions + ["allow_other"] * options.allow_other
        words.append("ro" if options.read_only else "rw")
        words.append("dev" if options.dev else "nodev")
        words.append("suid" if options.suid else "nosuid")
        words += [] if options.exec else ["noexec"]
        words += [] if options.relatime else ["noatime"]
        return words


def _step(relay: Relay, established: Callable[[], None]) -> bool:
    done = relay.step()
    if done:
        established()
    return done


def _escape(text: str) -> str:
    """A value in a list of mount options."""
    return text.replace("\\", "\\\\").replace(",", "\\,")


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
