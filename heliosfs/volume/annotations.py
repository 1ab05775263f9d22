"""What people put on snapshots: notes (keys with values) and holds. Each change is an operation that undo takes back.

A hold protects a snapshot from deletion, by hand and by retention, and with it the branch that it belongs to.
"""

import errno

from msgspec.structs import replace

from heliosfs.base.errors import Refusal
from heliosfs.view.inode import Caller
from heliosfs.volume import refs
from heliosfs.volume.branch import Branch, Snapshot
from heliosfs.volume.naming import text
from heliosfs.volume.refs import SnapshotRecord, snapshot_key
from heliosfs.volume.registry import Registry
from heliosfs.volume.transaction import Transaction

NOTES_MAX = 64
KEY_BYTES_MAX = 200
"""With its prefix a key is the name of an extended attribute, which has at most 255."""
VALUE_BYTES_MAX = 4096
MESSAGE_BYTES_MAX = 65536
"""Notes are kept in memory, and twice in the log with every change."""


def check_notes(notes: dict[str, str], message: str = "") -> None:
    """EINVAL, E2BIG or ENOSPC for notes that cannot be."""
    if not notes and not message:
        return
    for key, value in notes.items():
        if not key or "=" in key or not key.isprintable() or any(each.isspace() for each in key):
            raise Refusal(errno.EINVAL, f"{key!r} cannot be the key of a note: no blanks, no =, no control characters")
        if len(_bytes(key)) > KEY_BYTES_MAX:
            raise Refusal(errno.EINVAL, f"the key of a note has at most {KEY_BYTES_MAX} bytes")
        _check_text(value, f"the note {key!r}")
        if len(_bytes(value)) > VALUE_BYTES_MAX:
            raise Refusal(errno.E2BIG, f"the note {key!r} is too long: a note has at most {VALUE_BYTES_MAX} bytes")
    if len(notes) > NOTES_MAX:
        raise Refusal(errno.ENOSPC, f"a snapshot has at most {NOTES_MAX} notes")
    _check_text(message, "the message")
    if len(_bytes(message)) > MESSAGE_BYTES_MAX:
        raise Refusal(errno.E2BIG, f"a message has at most {MESSAGE_BYTES_MAX} bytes")


def _check_text(value: str, what: str) -> None:
    """Records hold texts; bytes that are none cannot be among them."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refusal(errno.EINVAL, f"{what} is not UTF-8; encode other bytes, as with base64") from None


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def set_note(registry: Registry, snapshot: Snapshot, key: str, value: str, caller: Caller) -> None:
    """Put a note on a snapshot, over one with that key if there is one."""
    notes = {**snapshot.record.notes, key: value}
    check_notes(notes)
    _change(registry, snapshot, replace(snapshot.record, notes=notes), "snapshot.note", f" {key}", caller)


def remove_note(registry: Registry, snapshot: Snapshot, key: str, caller: Caller) -> None:
    """Take a note away; ENODATA when there is none with that key."""
    if key not in snapshot.record.notes:
        raise Refusal(errno.ENODATA, f"the snapshot has no note {key!r}")
    notes = {each: value for each, value in snapshot.record.notes.items() if each != key}
    _change(registry, snapshot, replace(snapshot.record, notes=notes), "snapshot.note", f" without {key}", caller)


def hold(registry: Registry, snapshot: Snapshot, caller: Caller) -> None:
    """Protect a snapshot."""
    if not snapshot.record.held:
        _change(registry, snapshot, replace(snapshot.record, held=True), "snapshot.hold", "", caller)


def release(registry: Registry, snapshot: Snapshot, caller: Caller) -> None:
    """Take the protection away."""
    if snapshot.record.held:
        _change(registry, snapshot, replace(snapshot.record, held=False), "snapshot.release", "", caller)


def _change(
    registry: Registry, snapshot: Snapshot, record: SnapshotRecord, verb: str, more: str, caller: Caller
) -> None:
    if snapshot.dropped:
        raise Refusal(errno.ESTALE, f"the snapshot {text(snapshot.name)!r} was deleted")
    transaction = Transaction(registry)
    transaction.put(snapshot_key(snapshot.branch.id, snapshot.name), refs.encode(record))
    transaction.commit(verb, text(snapshot.name) + more, caller, snapshot.branch.id)


def check_released(snapshot: Snapshot) -> None:
    """EBUSY while a snapshot is held."""
    if snapshot.record.held:
        raise Refusal(
            errno.EBUSY,
            f"the snapshot {text(snapshot.name)!r} is held; `heliosfs snapshot release` lets it be deleted",
        )


def check_all_released(branch: Branch) -> None:
    """EBUSY while a snapshot of a branch is held."""
    for snapshot in branch.snapshots.values():
        if snapshot.record.held:
            name = text(snapshot.name)
            raise Refusal(errno.EBUSY, f"the snapshot {name!r} of branch {text(branch.name)!r} is held")


def reverted(present: SnapshotRecord, old: SnapshotRecord, new: SnapshotRecord) -> SnapshotRecord:
    """A record in which what went from `old` to `new` is taken back, and nothing else."""
    notes = dict(present.notes)
    for key in old.notes.keys() | new.notes.keys():
        before, after = old.notes.get(key), new.notes.get(key)
        if before != after and before is None:
            notes.pop(key, None)
        elif before != after and before is not None:
            notes[key] = before
    held = old.held if old.held != new.held else present.held
    return replace(present, notes=notes, held=held)
