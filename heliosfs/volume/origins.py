"""Which directory outside a tree came from: what `apply` compares that directory with before it writes to it.

An import of a directory leaves a snapshot with two notes, the directory and where it is in the tree; so does an apply,
since then the directory is as that state has it. Whoever deletes these snapshots gives up applying.
"""

import errno
from collections.abc import Iterable
from typing import Final

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.base.quoting import shown
from heliosfs.view.inode import Caller
from heliosfs.volume import refs
from heliosfs.volume.ancestry import contained
from heliosfs.volume.annotations import VALUE_BYTES_MAX
from heliosfs.volume.branch import Branch, Snapshot
from heliosfs.volume.refs import SnapshotRecord, snapshot_key
from heliosfs.volume.registry import Registry
from heliosfs.volume.transaction import Transaction

IMPORT_PREFIX: Final = b".import-"
APPLY_PREFIX: Final = b".apply-"

DIRECTORY: Final = "origin"
PATH: Final = "origin.path"
"""Keys of the notes."""


def put(
    transaction: Transaction, branch: Branch, prefix: bytes, state: int, caller: Caller, origin: str, path: str
) -> None:
    """Add to a transaction that a state of a branch has, at a path, what a directory outside has."""
    name = prefix + b"%d" % transaction.registry.next_operation()
    record = SnapshotRecord(state, now(), caller.uid, notes={DIRECTORY: origin, PATH: path})
    transaction.put(snapshot_key(branch.id, name), refs.encode(record))


def find(registry: Registry, branches: Iterable[Branch], branch: Branch, directory: str) -> Snapshot:
    """The newest such snapshot of a directory that a branch's state contains, of the branches that are given."""
    known = contained(registry, branch.id, branch.view.top.id)
    found = [
        snapshot
        for each in branches
        for snapshot in each.snapshots.values()
        if snapshot.record.notes.get(DIRECTORY) == directory and known.get(each.id, 0) >= snapshot.state.id
    ]
    if not found:
        raise Refusal(
            errno.ENOENT,
            f"{shown(directory)} was not imported into this tree, so what changed since is not known; "
            "`heliosfs import` it first, or `heliosfs export` into a new directory",
        )
    return max(found, key=lambda snapshot: (snapshot.state.id, snapshot.created))


def path_of(snapshot: Snapshot) -> str:
    """Where in the tree the directory is."""
    return snapshot.record.notes.get(PATH, ".")


def is_text(path: str) -> bool:
    """Whether a path can be in a note."""
    try:
        return len(path.encode()) <= VALUE_BYTES_MAX
    except UnicodeEncodeError:
        return False


def applied(registry: Registry, branch: Branch, state: int, snapshot: Snapshot, caller: Caller) -> None:
    """Note that the directory from which `snapshot` came is now as a state of the branch has it."""
    origin = snapshot.record.notes[DIRECTORY]
    transaction = Transaction(registry)
    put(transaction, branch, APPLY_PREFIX, state, caller, origin, path_of(snapshot))
    transaction.commit("apply", f"onto {shown(origin)}", caller, branch.id)
