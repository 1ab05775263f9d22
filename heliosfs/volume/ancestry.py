"""Which states a state contains: those that it was forked from and those that were merged into it.

A state of a branch contains every earlier state of that branch, so the newest one of each branch says all. Layer
ids grow along the way: what contains a state has a larger id than it.
"""

from typing import Final

from msgspec.structs import replace

from heliosfs.layers.layer import Layer
from heliosfs.volume.branch import Branch
from heliosfs.volume.refs import BranchRecord
from heliosfs.volume.registry import Registry

EARLIER_MERGES_MAX: Final = 64
"""How many are known of a branch besides the newest one of each other branch."""

Contained = dict[int, int]
"""Id of a branch -> the newest state of it that is contained."""


def contained(registry: Registry, branch_id: int, state: int) -> Contained:
    """For each branch of which a state contains anything: the newest state of it that is contained."""
    found: Contained = {}
    pending = [(branch_id, state)]
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


def united(left: Contained, right: Contained) -> Contained:
    """What a state contains into which two were merged."""
    return {branch_id: max(left.get(branch_id, 0), right.get(branch_id, 0)) for branch_id in left.keys() | right.keys()}


def common_states(registry: Registry, left: Contained, right: Contained) -> list[tuple[Layer, Contained]]:
    """The states that are contained in both and not in another one of them, the newest first, with what each contains.

    There are several after merges crosswise: when two branches have each taken in the same two states of others.
    """
    states = {branch_id: min(left[branch_id], right[branch_id]) for branch_id in left.keys() & right.keys()}
    known = {branch_id: state for branch_id, state in states.items() if state in registry.layers}
    found: dict[int, tuple[Layer, Contained]] = {}
    for branch_id, state in sorted(known.items(), key=lambda item: item[1], reverse=True):
        if not any(inside.get(branch_id, 0) >= state for _, inside in found.values()):
            found[state] = registry.layers[state], contained(registry, branch_id, state)
    return list(found.values())


def with_merge(registry: Registry, record: BranchRecord, merge: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """What was merged into a branch once that was as well; what concerns dropped branches is forgotten.

    Earlier merges of the same branch say what earlier states contain, to which a restore or a fork may go back, or
    which others have merged.
    """
    known = [*(each for each in record.merged if each[1] in registry.branches), merge]
    newest = {each[1]: each for each in known}
    earlier = [each for each in known if newest[each[1]] is not each]
    forgotten = set(earlier[:-EARLIER_MERGES_MAX])
    return [each for each in known if each not in forgotten]


def with_taken_over(
    registry: Registry, record: BranchRecord, source: Branch | None, state: int, top: int
) -> list[tuple[int, int, int]]:
    """What is merged into a branch that goes to a state: what was merged into that, and, if it is the state of another
    branch, the `source`, that one as well. `top` is the layer in which the branch goes on."""
    merged = without_later(record, state)
    if source is None:
        return merged
    return with_merge(registry, replace(record, merged=merged), (top, source.id, state))


def without_later(record: BranchRecord, state: int) -> list[tuple[int, int, int]]:
    """What of that is contained in an earlier state of the branch."""
    return [each for each in record.merged if each[0] <= state]
