"""Checking the operation log as it is stored, and telling what its entries changed."""

import os
from collections.abc import Generator
from typing import Any

from heliosfs.base.errors import Corruption
from heliosfs.store.database import OPERATIONS, Database
from heliosfs.volume import operations, refs
from heliosfs.volume.operations import Operation, Verifier
from heliosfs.volume.registry import Registry

_STEP_OPERATIONS = 20
"""Checked between two chances for requests: about 0.2 ms."""

_PROBLEMS_MAX = 100


def verify(database: Database, registry: Registry) -> Generator[None, None, tuple[int, list[str]]]:
    """How many operations there are from the very first one on, and what is wrong with them.

    What memory has of the newest ones is compared with what is stored, so a tail that was cut off shows too.
    """
    verifier = Verifier()
    newest = {operation.number: operation for operation in registry.log}
    flushed = registry.new_operations[0].number if registry.new_operations else registry.next_operation()
    for count, (_, value) in enumerate(database.scan(OPERATIONS)):
        if count % _STEP_OPERATIONS == 0:
            yield
        try:
            operation = operations.decode(value)
        except Corruption as damage:
            verifier.problems.append(str(damage))
            continue
        known = newest.pop(operation.number, None)
        if operation.number >= flushed:
            continue
        if known is not None and known != operation:
            verifier.problems.append(f"operation {operation.number} is stored otherwise than it was recorded")
        verifier.take(operation)
        if len(verifier.problems) > _PROBLEMS_MAX:
            return verifier.checked, [*verifier.problems, "and perhaps more"]
    for number in sorted(newest):
        if number < flushed:
            verifier.problems.append(f"operation {number} is not stored any more")
    for operation in list(registry.new_operations):
        if operation.number >= flushed:
            verifier.take(operation)
    return verifier.checked, verifier.problems


def changes_as_json(registry: Registry, operation: Operation) -> list[dict[str, Any]]:
    """What an operation changed, before and after; None where there was, or is, nothing."""
    found = []
    for ref, before, after in operation.changes:
        setting = refs.setting_name(ref)
        if setting is not None:
            sides = {"before": before, "after": after}
            texts = {side: None if value is None else os.fsdecode(value) for side, value in sides.items()}
            found.append({"kind": "setting", "name": setting, **texts})
            continue
        branch_id, name = refs.split_key(ref)
        branch = registry.branches.get(branch_id)
        shown: dict[str, Any] = {"kind": "branch" if name is None else "snapshot"}
        if name is not None:
            shown["name"] = os.fsdecode(name)
        shown["branch"] = None if branch is None else os.fsdecode(b"/".join(branch.path()))
        for side, value in (("before", before), ("after", after)):
            shown[side] = None if value is None else _record_as_json(name is None, value)
        found.append(shown)
    return found


def _record_as_json(is_branch: bool, value: bytes) -> dict[str, Any]:
    if is_branch:
        branch = refs.decode_branch(value)
        return {"name": os.fsdecode(branch.name), "state": branch.top, "merged": [list(each) for each in branch.merged]}
    snapshot = refs.decode_snapshot(value)
    shown: dict[str, Any] = {"state": snapshot.state}
    if snapshot.message:
        shown["message"] = snapshot.message
    if snapshot.notes:
        shown["notes"] = snapshot.notes
    if snapshot.held:
        shown["held"] = True
    if snapshot.conflicts:
        shown["conflicts"] = len(snapshot.conflicts)
    return shown
