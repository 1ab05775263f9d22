"""Settings of a volume: what there is to set, what it may be, and how it is kept.

A setting is a ref, so it is in the journal when it is set, and setting one is an operation that undo takes back.
"""

import errno
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from heliosfs.base.errors import Refusal
from heliosfs.view.inode import Caller
from heliosfs.volume.branch import Branch
from heliosfs.volume.refs import setting_key
from heliosfs.volume.registry import Registry
from heliosfs.volume.transaction import Transaction

OFF: Final = "off"
DEFAULT: Final = "default"
"""In place of a value: go back to what it is when nobody has set it."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d{1,9})([smhdw])")
_NANOSECONDS = 1_000_000_000


def duration(value: str) -> int:
    """Nanoseconds of a duration such as `10s`, `6h` or `90d`; 0 for `off`."""
    if value == OFF:
        return 0
    match = _DURATION.fullmatch(value)
    if not match:
        raise Refusal(errno.EINVAL, f"{value!r} is no duration: give a number with s, m, h, d or w, or {OFF}")
    return int(match[1]) * _UNITS[match[2]] * _NANOSECONDS


def _interval(value: str) -> None:
    if value != OFF and duration(value) < _NANOSECONDS:
        raise Refusal(errno.EINVAL, f"the interval is at least 1s, or {OFF}")


class Setting(NamedTuple):
    """One of them. `check` raises EINVAL for what it cannot be."""

    default: str
    check: Callable[[str], object]
    about: str


INTERVAL: Final = "auto.interval"
KEEP_ALL: Final = "auto.keep.all"
KEEP_MINUTES: Final = "auto.keep.minutes"
KEEP_HOURS: Final = "auto.keep.hours"
KEEP_DAYS: Final = "auto.keep.days"

SETTINGS: Final = {
    INTERVAL: Setting("10s", _interval, "how often a changed tree is kept by itself, or off"),
    KEEP_ALL: Setting("10m", duration, "how long all of these states are kept"),
    KEEP_MINUTES: Setting("6h", duration, "how long one a minute is kept"),
    KEEP_HOURS: Setting("7d", duration, "how long one an hour is kept"),
    KEEP_DAYS: Setting("90d", duration, "how long one a day is kept"),
}


def _known(name: str) -> Setting:
    setting = SETTINGS.get(name)
    if setting is None:
        raise Refusal(errno.ENOENT, f"there is no setting {name!r}; there are {', '.join(SETTINGS)}")
    return setting


def value_of(registry: Registry, name: str) -> str:
    """What a setting is now."""
    return registry.settings.get(name, _known(name).default)


def put(registry: Registry, branch: Branch, name: str, value: str, caller: Caller) -> None:
    """Set one. The operation is put into the log of the branch from which it is done."""
    setting = _known(name)
    transaction = Transaction(registry)
    if value == DEFAULT:
        if name not in registry.settings:
            return
        transaction.remove(setting_key(name))
    else:
        setting.check(value)
        transaction.put(setting_key(name), value.encode())
    transaction.commit("config", f"{name} {value}", caller, branch.id)


def as_json(registry: Registry, name: str) -> dict[str, Any]:
    """A setting for programs."""
    setting = _known(name)
    shown = {"name": name, "value": value_of(registry, name), "default": setting.default, "about": setting.about}
    return {**shown, "set": name in registry.settings}
