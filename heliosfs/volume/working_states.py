"""States as directories, for commands that copy from them: a snapshot has one, any other state gets one for a while.

What is made for a command is among the states that were kept by themselves, in `.snapshots/.auto`, but stands for no
time. The command takes it away when it is done; one that was killed leaves it to the time machine.
"""

import errno
import os
from typing import NamedTuple

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.layers.layer import Layer
from heliosfs.view.inode import Caller
from heliosfs.volume import refs, states
from heliosfs.volume.branch import Branch, Snapshot
from heliosfs.volume.draft import frozen
from heliosfs.volume.naming import AUTO, NOW, text
from heliosfs.volume.refs import SnapshotRecord, timed_key
from heliosfs.volume.registry import Registry
from heliosfs.volume.time_machine import WORKING, name_of
from heliosfs.volume.transaction import Transaction


class Place(NamedTuple):
    """Where a state is a directory: `path` from the root of the tree; `made` when it was made for a command."""

    path: bytes
    made: Snapshot | None


def show(registry: Registry, branch: Branch, word: str, caller: Caller) -> Place:
    """A directory with the state that a word means, seen from a branch."""
    name = os.fsencode(word)
    if word != NOW:
        if name in branch.snapshots:
            return _named(b"", branch.snapshots[name])
        if name in branch.children:
            child = branch.children[name]
            return make(registry, child, frozen(registry, child), caller, b".branches/%b/" % name)
        child_name, _, snapshot_name = name.rpartition(b"@")
        if child_name in branch.children and snapshot_name in branch.children[child_name].snapshots:
            return _named(b".branches/%b/" % child_name, branch.children[child_name].snapshots[snapshot_name])
    state = states.find(registry, branch, word)
    return make(registry, branch, state if state.frozen else frozen(registry, branch), caller)


def _named(above: bytes, snapshot: Snapshot) -> Place:
    if snapshot.filling:
        raise Refusal(errno.EBUSY, f"the snapshot {text(snapshot.name)!r} is still being filled")
    return Place(above + b".snapshots/" + snapshot.name, None)


def make(registry: Registry, branch: Branch, state: Layer, caller: Caller, above: bytes = b"") -> Place:
    """A directory with a frozen state of a branch, whose root is at `above`."""
    branch.check_there()
    moment = now()
    # A name that was never used: the kernel may remember what those that were lead to.
    name = b"%b-%d" % (name_of(moment), registry.allocate_layer())
    transaction = Transaction(registry)
    record = SnapshotRecord(state.id, moment, caller.uid, message=WORKING)
    transaction.set(timed_key(branch.id, name), refs.encode(record))
    transaction.commit()
    return Place(b"%b.snapshots/%b/%b" % (above, AUTO, name), branch.timed[name])
