"""The options of `heliosfs mount -o`: the fields of the FUSE floor's Options, by their names.

A field that is a bool is given by its name alone (`allow_other`, or `allow_other=no`), any other as
NAME=VALUE; a tuple takes words separated by colons.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from heliosfs.fuse.options import Options

_BOOLEANS = {"": True, "yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_OWN_SWITCH = ("branch", "read_only")
"""Fields that have a switch of their own on the command line."""

_MOUNT_WORDS = {
    "ro": ("read_only", True), "rw": ("read_only", False), "nodev": ("dev", False), "nosuid": ("suid", False),
    "noexec": ("exec", False), "noatime": ("relatime", False),
}  # fmt: skip
"""As mount(8) has them."""

_HELP = {
    "allow_other": "other users may enter, with the rights that modes and owners give them",
    "default_permissions": "the kernel checks modes and owners",
    "dev": "device nodes can be opened",
    "suid": "set-id bits count when a program is run",
    "exec": "programs can be run",
    "acl": "keep and check POSIX access control lists",
    "relatime": "reads update access times, at most once a day or after a change",
    "list_magic": "list .snapshots, .branches and .heliosfs in directory listings",
    "copiers": "more programs, A:B:C, that start with an empty snapshot or branch, as cp and tar do",
    "own_mount": "do the kernel's handshake ourselves, for features that libfuse does not ask for",
    "fast_loop": "replace the waiting part of pyfuse3's request loop",
    "long_timeouts": "let the kernel keep names and attributes for ever, not for a second",
    "quiet_xattrs": "answer for attributes that there are not so that programs ask but once",
    "silent_close": "have the kernel ask nothing when a file is closed",
    "keep_freed_memory": "keep big buffers for the next request",
    "calm_collector": "look for garbage in memory seldom",
    "spin_microseconds": "how long to look for the next request before sleeping; 0 saves power",
    "read_ahead_kilobytes": "how far the kernel reads ahead (set by root alone); 0 leaves it alone",
    "low_latency": "keep idle processors out of deep sleep while requests arrive (root alone)",
}
"""One line for each field of Options that a word can set."""


def parse(given: Iterable[str], *, branch: str | None = None, read_only: bool = False) -> Options:
    """Options from words like "allow_other,copiers=cp:mv"; the switches stand above them.

    ValueError, for a person, when one is wrong.
    """
    fields = {field.name: field for field in dataclasses.fields(Options)}
    values: dict[str, Any] = {}
    for word in (word for words in given for word in words.split(",") if word):
        name, equals, text = word.partition("=")
        name = name.replace("-", "_")
        if word in _MOUNT_WORDS:
            field, value = _MOUNT_WORDS[word]
            values[field] = value
        elif name in fields:
            values[name] = _value(fields[name], text, bool(equals))
        else:
            raise ValueError(f"there is no option {name!r}; `-o help` lists them")
    if branch is not None:
        values["branch"] = branch
    if read_only:
        values["read_only"] = True
    return Options(**values)


def describe() -> str:
    """One line for each option with its default."""
    fields = [field for field in dataclasses.fields(Options) if field.name not in _OWN_SWITCH]
    return "\n".join(f"{field.name:<22} {_HELP[field.name]}. Default: {_written(field.default)}" for field in fields)


def _value(field: dataclasses.Field[Any], text: str, has_value: bool) -> Any:
    default = field.default
    if isinstance(default, bool):
        if text.lower() not in _BOOLEANS:
            raise ValueError(f"{field.name} is yes or no, not {text!r}")
        return _BOOLEANS[text.lower()]
    if not has_value:
        raise ValueError(f"{field.name} needs a value: {field.name}=...")
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            raise ValueError(f"{field.name} is a number, not {text!r}") from None
    return tuple(text.split(":")) if isinstance(default, tuple) else text


def _written(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple | frozenset):
        return ":".join(map(str, default)) or "none"
    return str(default)
