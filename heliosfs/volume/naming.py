"""Names of snapshots and branches: which there can be, and how they stand in messages."""

import errno
from collections.abc import Container

from heliosfs.base.errors import Refusal
from heliosfs.base.limits import NAME_BYTES_MAX

AUTO = b".auto"
"""No snapshot can be called so: the directory of the states that are kept by themselves is."""

NOW = "now"
"""Nothing can be called so: the present state is."""


def text(name: bytes) -> str:
    """A name as it stands in messages and in the log."""
    return name.decode(errors="backslashreplace")


def check_snapshot_name(name: bytes, taken: Container[bytes]) -> None:
    """Refuse what cannot be the name of a new snapshot."""
    check_branch_name(name, taken)
    if name == AUTO:
        raise Refusal(errno.EEXIST, f"{text(name)} is the directory of the states that are kept by themselves")


def check_branch_name(name: bytes, taken: Container[bytes]) -> None:
    """The same for a branch."""
    check_name(name, taken)
    if name == NOW.encode():
        raise Refusal(errno.EEXIST, f"{text(name)} is what the present state is called: choose another name")


def check_name(name: bytes, taken: Container[bytes]) -> None:
    """Refuse what cannot be the name of a snapshot or branch, or is one already."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise Refusal(errno.EINVAL, f"{text(name)!r} cannot be a name")
    if len(name) > NAME_BYTES_MAX:
        raise Refusal(errno.ENAMETOOLONG, f"a name has at most {NAME_BYTES_MAX} bytes")
    if name in taken:
        raise Refusal(errno.EEXIST, f"{text(name)!r} exists already")
