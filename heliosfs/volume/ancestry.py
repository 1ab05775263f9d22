"""Which states a state contains: those that it was forked from and those that were merged into it.

A state of a branch contains every earlier state of that branch, so the newest one of each branch says all. Layer
ids grow along the way: what contains a state has a larger id than it.
"""

from heliosfs.layers.layer import Layer
from heliosfs.volume.branch import Branch
from heliosfs.volume.refs import BranchRecord
from heliosfs.volume.registry import Registry


def contained(registry: Registry, branch: Branch, state: int) -> dict[int, int]:
    """For each branch of which a state contains anything: the newest state of it that is contained."""
    found: dict[int, int] = {}
    pending = [(branch.id, state)]
    while pending:
        branch_id, at = pending.pop()
        if found.get(branch_id, 0) >= at:
            continue
        found[branch_id] = at
        known = registry.branches.get(branch_id)
        if known is not None:
            record = known.record
            if record.parent and record.base:
                pending.append((record.parent, record.base))
            pending.extend((source, merged) for result, source, merged in record.merged if result <= at)
    return found


def common_base(registry: Registry, ours: tuple[Branch, int], theirs: tuple[Branch, int]) -> Layer | None:
    """The newest state that is contained in both; None when they have nothing in common."""
    left, right = contained(registry, *ours), contained(registry, *theirs)
    states = (min(left[branch_id], right[branch_id]) for branch_id in left.keys() & right.keys())
    known = [registry.layers[state] for state in states if state in registry.layers]
    return max(known, key=lambda layer: layer.id, default=None)


def with_merge(registry: Registry, record: BranchRecord, merge: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """What was merged into a branch once that was as well; what concerns dropped branches is forgotten."""
    kept = [each for each in record.merged if each[1] != merge[1] and each[1] in registry.branches]
    return [*kept, merge]


def without_later(record: BranchRecord, state: int) -> list[tuple[int, int, int]]:
    """What of that is contained in an earlier state of the branch."""
    return [each for each in record.merged if each[0] <= state]
