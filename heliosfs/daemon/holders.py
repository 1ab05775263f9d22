"""Which processes keep a mount busy, from /proc.

Links in /proc are compared as text and never followed: following one would ask the very daemon
whose mount is being taken down. Processes of other users are seen by root alone.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from heliosfs.daemon import mounts


class Holder(NamedTuple):
    """A process and the first thing found by which it holds the mount."""

    pid: int
    command: str
    how: str


def holders(mountpoint: str) -> list[Holder]:
    """All processes that have a working directory, file, program or mapping under the mountpoint."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            how = next(_uses(name, mountpoint), None)
            if how is not None:
                found.append(Holder(int(name), _command(name), how))
    return sorted(found)


def keepers(gone: mounts.Mount) -> list[Holder]:
    """What keeps a filesystem going after its mount here has been taken away: other mountpoints of it here, by the
    process 0, and for each other mount namespace that has it one of the processes there, as far as this user may see.
    """
    found = {_target("/proc/self/ns/mnt"): [Holder(0, "", path) for path in _mountpoints("self", gone)]}
    for name in filter(str.isdigit, os.listdir("/proc")):
        namespace = _target(f"/proc/{name}/ns/mnt")
        if not namespace or namespace in found:
            continue
        try:
            paths = _mountpoints(name, gone)
        except OSError:  # it has ended meanwhile, or belongs to another user
            continue
        found[namespace] = [Holder(int(name), _command(name), path) for path in paths[:1]]
    return sorted(holder for of_namespace in found.values() for holder in of_namespace)


def has_open(pid: int, path: str) -> bool:
    """Whether this process has this file open, as far as this user may see."""
    return any(target == path for target in _targets(f"/proc/{pid}/fd"))


def all_with_open(path: str) -> list[int]:
    """All processes that have this file open, as far as this user may see."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and has_open(int(name), path)]


def _uses(pid: str, mountpoint: str) -> Iterator[str]:
    inside = mountpoint.rstrip("/") + "/"
    for link, what in (("cwd", "working directory"), ("root", "root directory"), ("exe", "running program")):
        target = _target(f"/proc/{pid}/{link}")
        if target == mountpoint or target.startswith(inside):
            yield f"{what} {target}"
    for target in _targets(f"/proc/{pid}/fd"):
        if target == mountpoint or target.startswith(inside):
            yield f"open {target}"
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                path = line.rstrip("\n").partition("/")
                if ("/" + path[2]).startswith(inside):
                    yield f"mapped /{path[2]}"
    except OSError:
        return


def _mountpoints(pid: str, gone: mounts.Mount) -> list[str]:
    same = (gone.device, gone.store)
    return [mount.mountpoint for mount in mounts.everything(pid) if (mount.device, mount.store) == same]


def _targets(directory: str) -> Iterator[str]:
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        yield _target(f"{directory}/{name}")


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:
        return "?"
