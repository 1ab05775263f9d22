"""What is mounted, as the kernel tells it: there is no registry of our own that could go stale.

Paths are `str` by the filesystem's encoding with surrogate escapes, as in `os.fsdecode`. Nothing here
looks a path up inside a mount without need: a mount whose daemon is gone answers every look-up with
ENOTCONN, one whose daemon hangs does not answer at all.
"""

import errno
import os
import re
import stat
from typing import NamedTuple

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown

TYPE = "fuse.heliosfs"
MOUNTINFO = "/proc/{process}/mountinfo"
RESERVED = (".snapshots", ".branches", ".heliosfs")
"""Names that the root of a mount has already."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of mountinfo. `device` is what `st_dev` says of every file inside."""

    mountpoint: str
    type: str
    store: str
    device: int
    user_id: int
    read_only: bool
    whole: bool
    """False for a bind mount of a directory inside the filesystem."""


def mounts() -> list[Mount]:
    """All mounts of HeliosFS that this process sees, in the order in which they were made."""
    return [mount for mount in everything() if mount.type == TYPE]


def everything(process: str = "self") -> list[Mount]:
    """All mounts, of any type, that a process sees. Raises OSError when it is gone or another user's."""
    with open(MOUNTINFO.format(process=process), encoding="utf-8", errors="surrogateescape") as lines:
        return [_parse(line) for line in lines]


def mount_at(path: str) -> Mount | None:
    """The topmost mount, of any type, whose mountpoint is exactly this absolute path."""
    found = None
    for mount in everything():
        if mount.mountpoint == path:
            found = mount
    return found


def mount_around(path: str) -> Mount | None:
    """The mount of HeliosFS that this path lies in, also when its daemon is dead; None if in none."""
    path = os.path.realpath(path)
    found = None
    for mount in everything():
        inside = path == mount.mountpoint or path.startswith(mount.mountpoint.rstrip("/") + "/")
        if inside and (found is None or len(mount.mountpoint) >= len(found.mountpoint)):
            found = mount
    return found if found is not None and found.type == TYPE else None


def is_dead(path: str) -> bool:
    """Whether this is the mountpoint of a FUSE filesystem whose daemon is gone."""
    try:
        # Not stat, which the kernel answers from what it remembers, long after the daemon is gone.
        os.statvfs(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def unmount(mountpoint: str, *, lazy: bool = False) -> str:
    """Unmount; returns what went wrong in the system's words, or nothing when it worked."""
    command = ["fusermount3", "-u", "-z", mountpoint] if lazy else ["fusermount3", "-u", mountpoint]
    try:
        # Not from inside: the helper's own working directory would keep the mount busy.
        import subprocess  # 8 ms that only unmounting needs

        done = subprocess.run(command, cwd="/", capture_output=True, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        raise HeliosError("fusermount3 is not installed (Debian, Ubuntu: apt-get install fuse3)") from None
    if done.returncode == 0:
        return ""
    said = done.stderr.decode(errors="replace").strip()
    return said or f"fusermount3 ended with {done.returncode}"


def check_mountpoint(mountpoint: str, store: str) -> None:
    """See that a filesystem can be mounted here; clear away a dead mount of ours.

    Both paths are absolute and free of symbolic links. Raises HeliosError, which names the way out.
    """
    name = shown(mountpoint)
    if is_dead(mountpoint):
        _clear_away(mountpoint)
    try:
        status = os.stat(mountpoint)
    except FileNotFoundError:
        raise HeliosError(f"there is no directory {name}; make it first: mkdir -p {name}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise HeliosError(f"{name} is not a directory; choose one to mount on")
    present = mount_at(mountpoint)
    if present is not None and present.type == TYPE:
        raise HeliosError(
            f"{name} has {shown(present.store)} mounted already; "
            f"use it, or unmount it first: heliosfs umount {name}"
        )
    _check_apart(mountpoint, store)
    if os.listdir(mountpoint):
        raise HeliosError(
            f"{name} is not empty, and a mount would hide what is in it; choose an empty directory"
        )


def check_base(directory: str, mountpoint: str, store: str) -> None:
    """See that a directory can be the base of a volume. All paths are absolute and free of symbolic links."""
    name = shown(directory)
    if not os.path.isdir(directory):
        raise HeliosError(f"the base {name} is no directory")
    inside = mount_around(directory)
    if inside is not None and inside.mountpoint == mountpoint:
        raise HeliosError(f"the base {name} is the mount itself; choose a directory outside of it")
    for other, what in ((mountpoint, "mountpoint"), (store, "store")):
        if other == directory or other.startswith(directory.rstrip("/") + "/"):
            raise HeliosError(f"the {what} {shown(other)} is the base {name} or in it; choose one outside of it")
    reserved = [each for each in RESERVED if os.path.lexists(os.path.join(directory, each))]
    if reserved:
        raise HeliosError(f"the base {name} has {shown(reserved[0])} in it, a name that is reserved in a mount's root")


def _clear_away(mountpoint: str) -> None:
    dead = mount_at(mountpoint)
    if dead is None or dead.type != TYPE or dead.user_id != os.getuid():
        name = shown(mountpoint)
        raise HeliosError(
            f"{name} is a mount whose daemon is gone; its owner can clear it away: umount -l {name}"
        )
    failure = unmount(mountpoint, lazy=True)
    if failure:
        raise HeliosError(f"the dead mount at {shown(mountpoint)} cannot be cleared away: {failure}")


def _check_apart(mountpoint: str, store: str) -> None:
    if store == mountpoint:
        raise HeliosError(
            f"{shown(store)} cannot be both the store and the mountpoint; choose two directories"
        )
    if store.startswith(mountpoint.rstrip("/") + "/"):
        raise HeliosError(f"the store {shown(store)} lies inside the mountpoint, which would hide it")
    if mountpoint.startswith(store.rstrip("/") + "/"):
        raise HeliosError(f"the mountpoint {shown(mountpoint)} lies inside the store; choose one outside")


def _parse(line: str) -> Mount:
    """A line as in proc(5): id, parent, device, root, mountpoint, options, tags, -, type, source, options."""
    before, _, after = line.rstrip("\n").partition(" - ")
    device, root, mountpoint, options = before.split(" ")[2:6]
    kind, source, own_options = [*after.split(" "), "", ""][:3]
    major, minor = device.split(":")
    user = re.search(r"(?:^|,)user_id=(\d+)", own_options)
    return Mount(
        mountpoint=_unescape(mountpoint),
        type=kind,
        store=_unescape(source),
        device=os.makedev(int(major), int(minor)),
        user_id=int(user.group(1)) if user else 0,
        read_only="ro" in options.split(",") or "ro" in own_options.split(","),
        whole=root == "/",
    )


def _unescape(text: str) -> str:
    """Undo the octal escapes that mountinfo has for space, tab, newline, backslash and hash."""
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)
