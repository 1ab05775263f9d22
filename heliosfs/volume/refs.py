"""Refs: what branches and snapshots are called and which states they refer to.

    base                              -> msgpack BaseRecord, of a volume that began with a directory: see `taking_in`
    branch/ID (8 bytes)               -> msgpack BranchRecord
    setting/NAME                      -> the value, as text
    snapshot/BRANCH ID (8 bytes)NAME  -> msgpack SnapshotRecord
    timed/BRANCH ID (8 bytes)NAME     -> the same, of a state that was kept by itself: see `time_machine`

A change of refs is one REFS record of the journal: the layers that were made, the refs as they are since, and
the operation for the log. It is applied whole or not at all.
"""

from typing import Final

import msgspec

from heliosfs.base.errors import Corruption

MAIN_BRANCH: Final = 1
"""The id of the branch that a mount shows at its top."""

BASE_KEY: Final = b"base"
_BRANCH = b"branch/"
_SETTING = b"setting/"
_SNAPSHOT = b"snapshot/"
_TIMED = b"timed/"
_ID_BYTES = 8


class BranchRecord(msgspec.Struct, array_like=True, frozen=True):
    """A branch. `top` is its layer; `base` the state it was forked from; `number` that of its view.

    `created` in ns; `parent` is 0 for the main branch. `merged` says what was merged into it: the state that this
    gave, the other branch's id and its state: the newest one of each branch, and some of those before.
    """

    name: bytes
    parent: int
    top: int
    base: int
    number: int
    created: int
    uid: int
    merged: list[tuple[int, int, int]] = []


class ConflictRecord(msgspec.Struct, array_like=True, frozen=True):
    """What a merge left open: `kind` is one of those in `conflicts`. The paths are those in the branch that was
    merged into, in the common base and in the other branch; None where it has none."""

    kind: str
    ours: bytes | None
    base: bytes | None
    theirs: bytes | None


class SnapshotRecord(msgspec.Struct, array_like=True, frozen=True):
    """A snapshot: a frozen state. `file` is the inode number when it is one copied file, else 0; `filling` the
    process that may still fill it, else 0. `conflicts` holds what is unresolved of the merge of this state. `held`
    protects it from deletion."""

    state: int
    created: int
    uid: int
    file: int = 0
    filling: int = 0
    message: str = ""
    notes: dict[str, str] = {}
    conflicts: list[ConflictRecord] = []
    held: bool = False


class BaseRecord(msgspec.Struct, array_like=True, frozen=True):
    """The directory that a volume began with, and the layer that stands for it. `done` once all of it is taken in."""

    layer: int
    directory: str
    done: bool = False


class RefsRecord(msgspec.Struct, array_like=True):
    """The header of a REFS record of the journal.

    `layers` holds [id, id of the layer below or 0] of each new layer; the layers below them are frozen by it, as
    are those in `frozen`. `refs` holds [key, value or None to remove].
    """

    layers: list[tuple[int, int]]
    frozen: list[int]
    refs: list[tuple[bytes, bytes | None]]
    operation: bytes | None


encode = msgspec.msgpack.Encoder().encode
_decode_branch = msgspec.msgpack.Decoder(BranchRecord).decode
_decode_snapshot = msgspec.msgpack.Decoder(SnapshotRecord).decode
_decode_base = msgspec.msgpack.Decoder(BaseRecord).decode
_decode_refs = msgspec.msgpack.Decoder(RefsRecord).decode


def branch_key(branch_id: int) -> bytes:
    """The ref of a branch."""
    return _BRANCH + branch_id.to_bytes(_ID_BYTES, "big")


def snapshot_key(branch_id: int, name: bytes) -> bytes:
    """The ref of a snapshot."""
    return _SNAPSHOT + branch_id.to_bytes(_ID_BYTES, "big") + name


def timed_key(branch_id: int, name: bytes) -> bytes:
    """The ref of a state of a branch that was kept by itself."""
    return _TIMED + branch_id.to_bytes(_ID_BYTES, "big") + name


def split_timed(ref: bytes) -> tuple[int, bytes] | None:
    """(branch id, name) of such a ref; None for all others."""
    if not ref.startswith(_TIMED) or len(ref) <= len(_TIMED) + _ID_BYTES:
        return None
    at = len(_TIMED) + _ID_BYTES
    return int.from_bytes(ref[len(_TIMED) : at], "big"), ref[at:]


def setting_key(name: str) -> bytes:
    """The ref of a setting."""
    return _SETTING + name.encode()


def setting_name(ref: bytes) -> str | None:
    """The name of a setting; None for refs that are none."""
    return ref[len(_SETTING) :].decode(errors="replace") if ref.startswith(_SETTING) else None


def split_key(ref: bytes) -> tuple[int, bytes | None]:
    """(branch id, snapshot name or None) of a ref."""
    if ref.startswith(_BRANCH) and len(ref) == len(_BRANCH) + _ID_BYTES:
        return int.from_bytes(ref[len(_BRANCH) :], "big"), None
    if ref.startswith(_SNAPSHOT) and len(ref) > len(_SNAPSHOT) + _ID_BYTES:
        at = len(_SNAPSHOT) + _ID_BYTES
        return int.from_bytes(ref[len(_SNAPSHOT) : at], "big"), ref[at:]
    raise Corruption("ref", repr(ref))


def owner(ref: bytes, value: bytes) -> int:
    """The id of the branch without which there cannot be a ref: a branch's parent, a snapshot's branch; 0 for none."""
    if ref == BASE_KEY or setting_name(ref) is not None:
        return 0
    timed = split_timed(ref)
    branch_id, name = timed or split_key(ref)
    return decode_branch(value).parent if name is None else branch_id


def decode_branch(value: bytes) -> BranchRecord:
    """The record of a branch."""
    try:
        return _decode_branch(value)
    except msgspec.MsgspecError as error:
        raise Corruption("branch record", str(error)) from error


def decode_snapshot(value: bytes) -> SnapshotRecord:
    """The record of a snapshot."""
    try:
        return _decode_snapshot(value)
    except msgspec.MsgspecError as error:
        raise Corruption("snapshot record", str(error)) from error


def decode_base(value: bytes) -> BaseRecord:
    """The record of the base."""
    try:
        return _decode_base(value)
    except msgspec.MsgspecError as error:
        raise Corruption("base record", str(error)) from error


def decode_refs(header: bytes) -> RefsRecord:
    """A REFS record of the journal."""
    try:
        return _decode_refs(header)
    except msgspec.MsgspecError as error:
        raise Corruption("journal record", f"refs: {error}") from error
