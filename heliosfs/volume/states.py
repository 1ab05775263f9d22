"""States as people write them.

    now                   what the branch shows
    NAME                  a snapshot of the branch, or a branch forked from it
    NAME@SNAPSHOT         a snapshot of the branch NAME
    2026-11-25T10:00:30Z  a state that was kept by itself, by its name
    op:N                  just before operation N of the log
    "5 minutes ago"       the newest kept state at or before that time
    2026-11-25T10:00      likewise
"""

import errno
import os
import re
from datetime import UTC, datetime

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.layers.layer import Layer
from heliosfs.volume import refs
from heliosfs.volume.branch import Branch, Snapshot
from heliosfs.volume.naming import AUTO, NOW
from heliosfs.volume.operations import Operation
from heliosfs.volume.refs import branch_key
from heliosfs.volume.registry import Registry
from heliosfs.volume.time_machine import is_kept

_AGO = re.compile(r"(\d+)\s*(second|minute|hour|day|week|month|year)s?\s+ago")
_DAY = 86400
_SECONDS = {
    "second": 1, "minute": 60, "hour": 3600, "day": _DAY, "week": 7 * _DAY, "month": 30 * _DAY, "year": 365 * _DAY,
}  # fmt: skip
_NANOSECONDS = 1_000_000_000


def find(registry: Registry, branch: Branch, text: str) -> Layer:
    """The layer of a state; a mutable one for `now` and for branches. ENOENT or EINVAL when there is none."""
    if text == NOW:
        return branch.view.top
    named = _named(branch, text)
    if named is not None:
        return named.view.top if isinstance(named, Branch) else named.state
    if text.startswith("op:") and text[3:].isdigit():
        return _before_operation(registry, branch, int(text[3:]))
    moment = parse_time(text)
    if moment is not None:
        return _at(registry, branch, text, moment)
    raise Refusal(
        errno.ENOENT,
        f"there is no state {text!r}: give a snapshot, a branch, NAME@SNAPSHOT, op:N, a time, or {NOW}",
    )


def branch_of(branch: Branch, state: str | Snapshot) -> Branch | None:
    """The other branch whose state it is, if it is one's by its name."""
    named = state if isinstance(state, Snapshot) else _named(branch, state)
    owner = named.branch if isinstance(named, Snapshot) else named
    return None if owner is branch else owner


def _named(branch: Branch, text: str) -> Branch | Snapshot | None:
    """What has a name, seen from a branch."""
    name = os.fsencode(text)
    found = branch.snapshots.get(name) or branch.children.get(name)
    found = found or branch.timed.get(name.removeprefix(AUTO + b"/"))
    child, at, snapshot = name.rpartition(b"@")
    if found is None and at and child in branch.children:
        found = branch.children[child].snapshots.get(snapshot)
    return found


def parse_time(text: str) -> int | None:
    """A moment in ns since 1970, or None when the text is none. Without a zone it is local time."""
    match = _AGO.fullmatch(text.strip())
    if match:
        return now() - int(match[1]) * _SECONDS[match[2]] * _NANOSECONDS
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return int(moment.astimezone(UTC).timestamp() * _NANOSECONDS)


def _before_operation(registry: Registry, branch: Branch, number: int) -> Layer:
    for operation in registry.log:
        if operation.number == number:
            layer = _recorded_state(registry, branch, operation)
            if layer is not None:
                return layer
            raise Refusal(errno.ENOENT, f"operation {number} ({operation.verb}) kept no state of this branch")
    raise Refusal(errno.ENOENT, f"there is no operation {number} in the log")


def _recorded_state(registry: Registry, branch: Branch, operation: Operation) -> Layer | None:
    """The state of a branch when an operation happened, if the operation or what it made kept it."""
    if operation.branch != branch.id:
        return None
    for ref, before, after in operation.changes:
        if refs.setting_name(ref) is not None:
            continue
        branch_id, name = refs.split_key(ref)
        layer_id = None
        if ref == branch_key(branch.id) and before is not None:
            layer_id = refs.decode_branch(before).top
        elif operation.verb == "snapshot.create" and name is not None and after is not None:
            record = refs.decode_snapshot(after)
            layer_id = None if record.filling else record.state
        elif operation.verb == "branch.create" and branch_id != branch.id and after is not None:
            layer_id = refs.decode_branch(after).base
        if layer_id in registry.layers:
            return registry.layers[layer_id]
    return None


def _at(registry: Registry, branch: Branch, text: str, moment: int) -> Layer:
    """The newest kept state at or before a moment."""
    if moment >= now():
        return branch.view.top
    kept = [(snapshot.created, snapshot.state) for snapshot in branch.timed.values() if is_kept(snapshot)]
    kept += [
        (snapshot.created, snapshot.state) for snapshot in branch.snapshots.values() if not snapshot.filling
    ]
    for operation in registry.log:
        layer = _recorded_state(registry, branch, operation)
        if layer is not None:
            kept.append((operation.time, layer))
    earlier = [pair for pair in kept if pair[0] <= moment]
    if not earlier:
        raise Refusal(errno.ENOENT, f"no state of this branch was kept at {text!r} or before")
    return max(earlier, key=lambda pair: pair[0])[1]
