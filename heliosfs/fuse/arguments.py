"""The arguments of verbs: taken out of a request's JSON, and refused where they are of the wrong kind."""

import errno
from typing import Any

from heliosfs.base.errors import Refusal
from heliosfs.fuse.trees import name_of

Arguments = dict[str, Any]


def text_of(arguments: Arguments, key: str, default: str | None = None) -> str:
    """A text; EINVAL when it is missing and has no default."""
    value = arguments.get(key, default)
    if not isinstance(value, str):
        raise Refusal(errno.EINVAL, f"the argument {key!r} is missing or no text")
    return value


def name_in(arguments: Arguments, key: str = "name") -> bytes:
    """The name of a snapshot or branch."""
    try:
        return name_of(text_of(arguments, key))
    except UnicodeEncodeError:
        raise Refusal(errno.EINVAL, f"the argument {key!r} cannot be a name") from None


def paths_of(arguments: Arguments) -> list[bytes]:
    """Paths from the root of a tree; none when they are left out."""
    paths = arguments.get("paths") or []
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise Refusal(errno.EINVAL, "paths are a list of texts")
    return [name_of(path) for path in paths]


def states_of(arguments: Arguments) -> tuple[str, str | None]:
    """The two states that are to be compared; without `b` it is the present one."""
    return text_of(arguments, "a"), text_of(arguments, "b") if arguments.get("b") is not None else None


def notes_of(arguments: Arguments, key: str = "notes") -> dict[str, str]:
    """Keys with their values."""
    notes = arguments.get(key) or {}
    if not isinstance(notes, dict) or not all(isinstance(each, str) for pair in notes.items() for each in pair):
        raise Refusal(errno.EINVAL, "notes are an object of texts")
    return notes
