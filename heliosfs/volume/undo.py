"""Reverting operations of the log, from what they noted of the refs before and after."""

import errno

from msgspec.structs import replace

from heliosfs.base.errors import Refusal
from heliosfs.layers.layer import Layer
from heliosfs.view.inode import Caller
from heliosfs.volume import refs
from heliosfs.volume.annotations import check_all_released, check_released, reverted
from heliosfs.volume.branch import Branch
from heliosfs.volume.conflicts import PREFIX
from heliosfs.volume.naming import check_name, text
from heliosfs.volume.operations import Operation
from heliosfs.volume.origins import APPLY_PREFIX, IMPORT_PREFIX
from heliosfs.volume.pointing import point
from heliosfs.volume.refs import branch_key, snapshot_key, timed_key
from heliosfs.volume.registry import Registry
from heliosfs.volume.transaction import Transaction


def undo(
    registry: Registry, branch: Branch, caller: Caller, number: int | None = None
) -> list[tuple[Branch, set[int]]]:
    """Revert one operation of a branch, the newest one unless `number` says which.

    An undo is an operation too, so undoing it does the operation again. Returns the branches whose content
    changed, with the inode numbers that may differ.
    """
    operation = _operation(registry, branch, number)
    transaction = Transaction(registry)
    pointed: list[tuple[Branch, Layer, set[int]]] = []
    for ref, before, after in operation.changes:
        if refs.setting_name(ref) is not None:
            _revert_setting(registry, transaction, ref, before)
            continue
        branch_id, name = refs.split_key(ref)
        if before is None:
            _revert_creation(registry, transaction, ref)
        elif after is None:
            _revert_removal(registry, transaction, ref, before)
        elif name is None:
            pointed += _revert_branch(registry, transaction, branch_id, before, after)
        else:
            _revert_snapshot(registry, transaction, ref, before, after)
    transaction.commit("undo", f"{operation.number}: {operation.verb} {operation.text}", caller, branch.id)
    for target, layer, changed in pointed:
        target.view.switched(layer, changed)
    return [(target, changed) for target, _, changed in pointed]


def _operation(registry: Registry, branch: Branch, number: int | None) -> Operation:
    for operation in reversed(registry.log):
        if operation.branch == branch.id and number in (None, operation.number):
            if operation.verb == "volume.create":
                break
            return operation
    if number is None:
        raise Refusal(errno.ENOENT, "there is nothing to undo")
    raise Refusal(errno.ENOENT, f"there is no operation {number} of this branch that could be undone")


def _revert_setting(registry: Registry, transaction: Transaction, ref: bytes, before: bytes | None) -> None:
    if before is not None:
        transaction.put(ref, before)
    elif ref in registry.refs:
        transaction.remove(ref)


def _revert_creation(registry: Registry, transaction: Transaction, ref: bytes) -> None:
    branch_id, name = refs.split_key(ref)
    if ref not in registry.refs:
        if name is not None and name.startswith((PREFIX, IMPORT_PREFIX, APPLY_PREFIX)):
            return
        raise Refusal(errno.ENOENT, f"{_describe(registry, ref)} is not there any more: it cannot be undone")
    if name is None:
        branch = registry.branches[branch_id]
        if branch.children:
            what = _describe(registry, ref)
            raise Refusal(errno.ENOTEMPTY, f"{what} has branches of its own: delete those first")
        check_all_released(branch)
        transaction.freeze_layer(branch.view.top.id)
        for snapshot_name in list(branch.snapshots):
            transaction.remove(snapshot_key(branch_id, snapshot_name))
        for timed in branch.timed:
            transaction.drop(timed_key(branch_id, timed))
    else:
        check_released(registry.branches[branch_id].snapshots[name])
    transaction.remove(ref)


def _revert_removal(registry: Registry, transaction: Transaction, ref: bytes, value: bytes) -> None:
    _, name = refs.split_key(ref)
    if registry.state_of(ref, value) not in registry.layers:
        raise Refusal(errno.ENOENT, f"the content of {_describe(registry, ref)} has been collected")
    if name is None:
        record = refs.decode_branch(value)
        parent = registry.branches.get(record.parent)
        if parent is None:
            raise Refusal(errno.ENOENT, f"the branch that {text(record.name)!r} was forked from is gone")
        check_name(record.name, parent.children)
        top = transaction.new_layer(record.top)
        number = registry.allocate_number()
        value = refs.encode(replace(record, top=top, number=number))
    elif ref in registry.refs:
        raise Refusal(errno.EEXIST, f"{_describe(registry, ref)} exists again: rename that first")
    transaction.put(ref, value)


def _revert_branch(
    registry: Registry, transaction: Transaction, branch_id: int, before: bytes, after: bytes
) -> list[tuple[Branch, Layer, set[int]]]:
    branch = registry.branches.get(branch_id)
    if branch is None:
        raise Refusal(errno.ENOENT, "the branch is not there any more")
    old, new = refs.decode_branch(before), refs.decode_branch(after)
    if old.name != new.name:
        assert branch.parent is not None
        check_name(old.name, branch.parent.children)
        transaction.put(branch_key(branch_id), refs.encode(replace(branch.record, name=old.name)))
        return []
    if old.top == new.top:
        transaction.put(branch_key(branch_id), refs.encode(replace(branch.record, merged=old.merged)))
        return []
    target = registry.layers.get(old.top)
    if target is None:
        raise Refusal(errno.ENOENT, "the state before has been collected")
    return [(branch, *point(registry, transaction, branch, target, merged=old.merged))]


def _revert_snapshot(registry: Registry, transaction: Transaction, ref: bytes, before: bytes, after: bytes) -> None:
    """Open the conflicts again that were settled, or the other way round; and notes and holds as they were."""
    present = registry.refs.get(ref)
    if present is None:
        return
    old, new = refs.decode_snapshot(before), refs.decode_snapshot(after)
    record = reverted(refs.decode_snapshot(present), old, new)
    if old.conflicts != new.conflicts:
        kept = [each for each in record.conflicts if each in old.conflicts or each not in new.conflicts]
        found = [*kept, *(each for each in old.conflicts if each not in kept and each not in new.conflicts)]
        record = replace(record, conflicts=found)
    transaction.put(ref, refs.encode(record))


def _describe(registry: Registry, ref: bytes) -> str:
    branch_id, name = refs.split_key(ref)
    if name is not None:
        return f"snapshot {text(name)!r}"
    branch = registry.branches.get(branch_id)
    return f"branch {text(branch.name)!r}" if branch else "the branch"
