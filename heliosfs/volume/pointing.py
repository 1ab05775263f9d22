"""Letting a branch show another state: the common end of restore and undo."""

from msgspec.structs import replace

from heliosfs.layers.layer import Layer
from heliosfs.volume import refs
from heliosfs.volume.ancestry import with_taken_over
from heliosfs.volume.branch import Branch
from heliosfs.volume.difference import touched_inodes
from heliosfs.volume.refs import branch_key
from heliosfs.volume.registry import Registry
from heliosfs.volume.transaction import Transaction


def point(
    registry: Registry,
    transaction: Transaction,
    branch: Branch,
    target: Layer,
    source: Branch | None = None,
    merged: list[tuple[int, int, int]] | None = None,
) -> tuple[Layer, set[int]]:
    """Let `transaction` point a branch at a state; the state it has now and the inodes that may differ.

    `source` is the other branch whose state it is, if it is one's. `merged` is what was merged into that state, if it
    is known.
    """
    assert target.frozen
    branch.check_there()
    before = branch.view.top
    if before.empty and before.below is not None:
        before = before.below
    else:
        transaction.freeze_layer(before.id)
    top = transaction.new_layer(target.id)
    if merged is None:
        merged = with_taken_over(registry, branch.record, source, target.id, top)
    record = replace(branch.record, top=top, merged=merged)
    ref = branch_key(branch.id)
    transaction.set(ref, refs.encode(record))
    shown = replace(branch.record, top=before.id)
    transaction.show(ref, refs.encode(shown), refs.encode(replace(record, top=target.id)))
    return before, touched_inodes(registry.engine.tree, before, target)
