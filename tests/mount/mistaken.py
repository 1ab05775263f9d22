"""The command with mistakes in it, made on demand: `python -m tests.mount.mistaken mount STORE MOUNTPOINT`.

A symbolic link to TARGET and a snapshot named NAME make the code below the handler fail in a way that nobody foresaw:
the first in a handler that runs through, the second in one that waits.
"""

from __future__ import annotations

from typing import Any

from heliosfs.cli.main import main
from heliosfs.view.view import View
from heliosfs.volume.volume import Volume

TARGET = b"the target of a mistake"
NAME = b"mistake"

_make = View.make
_snapshot = Volume.snapshot


def make(self: View, *arguments: Any, target: bytes = b"", **others: Any) -> Any:
    """As it is, but for one target."""
    if target == TARGET:
        raise LookupError("nobody thought of this target")
    return _make(self, *arguments, target=target, **others) if target else _make(self, *arguments, **others)


def snapshot(self: Volume, branch: Any, name: bytes, *arguments: Any, **others: Any) -> Any:
    """As it is, but for one name."""
    if name == NAME:
        raise ZeroDivisionError("nobody thought of this name")
    return _snapshot(self, branch, name, *arguments, **others)


View.make = make  # type: ignore[method-assign]
Volume.snapshot = snapshot  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
