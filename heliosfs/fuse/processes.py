"""What /proc says about the processes that make requests.

The kernel names a caller by the id of its *thread*. /proc answers for thread ids too. Processes come and go
and may live in another pid namespace (their id is then 0): everything here answers "unknown" rather than
fail.
"""

import os
from collections import OrderedDict
from typing import Final, NamedTuple

PIECE_BYTES: Final = 64 << 10
COMMAND_BYTES_MAX: Final = 64
COMMANDS_KEPT: Final = 16
"""How many recent callers' names are kept open: reading one again costs a tenth of opening it."""

_commands: Final[OrderedDict[int, int]] = OrderedDict()
"""Descriptors of /proc/ID/comm, the least recently used first. Each belongs to one thread for ever: once that has
ended it says so, whoever has its id by then."""


class Identity(NamedTuple):
    """The process that a thread belongs to, and that process's parent; 0 when unknown."""

    process: int
    parent: int


UNKNOWN = Identity(0, 0)


def command(pid: int) -> bytes:
    """The command name, at most 15 bytes; empty when unknown."""
    descriptor = _commands.pop(pid, -1)
    if descriptor >= 0:
        try:
            name = os.pread(descriptor, COMMAND_BYTES_MAX, 0)
        except OSError:
            os.close(descriptor)
        else:
            _commands[pid] = descriptor
            return name.rstrip(b"\n")
    return _open_command(pid)


def _open_command(pid: int) -> bytes:
    if pid <= 0:
        return b""
    try:
        descriptor = os.open(f"/proc/{pid}/comm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        name = os.pread(descriptor, COMMAND_BYTES_MAX, 0)
    except OSError:
        os.close(descriptor)
        return b""
    _commands[pid] = descriptor
    if len(_commands) > COMMANDS_KEPT:
        os.close(_commands.popitem(last=False)[1])
    return name.rstrip(b"\n")


def arguments(pid: int) -> list[bytes]:
    """The command line, the program's name first."""
    line = _read(pid, "cmdline")
    return line.removesuffix(b"\0").split(b"\0") if line else []


def identity(pid: int) -> Identity:
    """Which process a thread belongs to."""
    fields = _status(pid)
    try:
        return Identity(int(fields[b"Tgid"]), int(fields[b"PPid"]))
    except (KeyError, ValueError):
        return UNKNOWN


def groups(pid: int) -> set[int]:
    """The supplementary groups of a process; none when unknown."""
    return {int(word) for word in _status(pid).get(b"Groups", b"").split()}


def working_directory(pid: int) -> bytes:
    """The working directory's path as the process sees it; empty when unknown. Asks no filesystem."""
    try:
        return os.readlink(b"/proc/%d/cwd" % pid)
    except OSError:
        return b""


def _status(pid: int) -> dict[bytes, bytes]:
    fields = {}
    for line in _read(pid, "status").splitlines():
        name, _, value = line.partition(b":")
        fields[name] = value.strip()
    return fields


def _read(pid: int, name: str) -> bytes:
    if pid <= 0:
        return b""
    try:
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        pieces = []
        while piece := os.read(descriptor, PIECE_BYTES):
            pieces.append(piece)
            if len(piece) < PIECE_BYTES:
                break
        return b"".join(pieces)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
