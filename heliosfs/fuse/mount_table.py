"""What is mounted where, as the kernel's mountinfo tells it. Looks nothing up inside any mount."""

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_ESCAPE = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of mountinfo. `root` is the directory inside the filesystem that is mounted."""

    device: str
    root: bytes
    mountpoint: bytes
    type: bytes


def parse(text: bytes) -> Iterator[Mount]:
    """The mounts in the text of a mountinfo file."""
    for line in text.splitlines():
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        if len(fields) >= 5:
            device = fields[2].decode("ascii")
            yield Mount(device, _unescape(fields[3]), _unescape(fields[4]), after.split(b" ")[0])


def own() -> list[Mount]:
    """The mounts that this process sees."""
    return _read("self")


def device_at(mountpoint: str) -> str:
    """ "major:minor" of what is mounted at an absolute path; empty when nothing is."""
    path = os.fsencode(mountpoint)
    devices = [mount.device for mount in own() if mount.mountpoint == path]
    return devices[-1] if devices else ""


def roots_everywhere(device: str) -> frozenset[bytes]:
    """The directories of a filesystem that are mounted in any mount namespace.

    Walks over /proc: some microseconds a process, so call it from a worker thread.
    """
    seen = set()
    roots: set[bytes] = set()
    for process in ("self", *filter(str.isdigit, os.listdir("/proc"))):
        try:
            namespace = os.readlink(f"/proc/{process}/ns/mnt")
        except OSError:
            continue
        if namespace in seen:
            continue
        seen.add(namespace)
        roots.update(mount.root for mount in _read(process) if mount.device == device)
    return frozenset(roots)


def is_in_or_below(roots: Iterable[bytes], directory: bytes) -> bool:
    """Whether one of the roots is a directory or lies below it."""
    below = directory.rstrip(b"/") + b"/"
    return any(root == directory or root.startswith(below) for root in roots)


def _read(process: str) -> list[Mount]:
    try:
        with open(f"/proc/{process}/mountinfo", "rb", buffering=0) as file:
            return list(parse(file.readall()))
    except OSError:
        return []


def _unescape(text: bytes) -> bytes:
    """Undo the octal escapes for space, tab, newline, backslash and hash."""
    return _ESCAPE.sub(lambda match: bytes([int(match.group(1), 8)]), text)
