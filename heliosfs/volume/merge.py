"""Merging what a branch changed into another one: one operation, all of it or nothing.

The base is the newest state that both contain: see `merge_base`. What is merged is noted at the target, so that the
next merge, either way, begins there. A merge of some paths only is not noted: the rest is still to be merged.

A merge is prepared in steps between which requests run: it compares frozen states and writes into a draft. Then it is
committed at once, unless the target has changed meanwhile: then it has to be prepared anew.
"""

import errno
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from typing import Any, Final

from msgspec.structs import replace

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.base.steps import Steps, finish
from heliosfs.layers.layer import Layer
from heliosfs.view.inode import Caller
from heliosfs.volume import refs
from heliosfs.volume.ancestry import contained, with_merge
from heliosfs.volume.branch import Branch
from heliosfs.volume.changes import Change, changes_in_steps, json_in_steps
from heliosfs.volume.conflicts import OURS, THEIRS, Taker, base_name, in_order_of_taking, open_merge, theirs_name
from heliosfs.volume.conflicts import as_json as conflict_as_json
from heliosfs.volume.draft import Draft, frozen
from heliosfs.volume.merge_base import MergeBase
from heliosfs.volume.reader import Reader
from heliosfs.volume.refs import BranchRecord, ConflictRecord, SnapshotRecord, snapshot_key
from heliosfs.volume.registry import Registry
from heliosfs.volume.three_way import ThreeWay
from heliosfs.volume.transaction import Transaction

STRATEGIES: Final = (OURS, THEIRS)
"""Whose side conflicts are decided for, instead of being left open."""
OPEN_CONFLICTS: Final = "an earlier merge has open conflicts, which `heliosfs conflicts` lists: resolve those first"


class Report:
    """What a merge did, or would do."""

    def __init__(self) -> None:
        self.number = 0
        """Of the operation in the log; 0 when nothing was done."""
        self.changes: list[Change] = []
        self.conflicts: list[ConflictRecord] = []
        """Left open."""
        self.decided: list[ConflictRecord] = []
        """Decided by the strategy."""
        self.changed: set[int] = set()
        """Inodes of the target that may have changed."""


class Prepared:
    """A merge that can be committed. To be let go of in the end."""

    def __init__(self, report: Report, draft: Draft | None, commit: Callable[[], None], held: ExitStack) -> None:
        self.report = report
        self._draft = draft
        self._commit = commit
        self._held = held

    def is_current(self) -> bool:
        """Whether what it was made for is still so."""
        return self._draft is None or self._draft.is_current()

    def commit(self) -> Report:
        """Make it the state of the target; what was done."""
        self._commit()
        self.release()
        return self.report

    def release(self) -> None:
        """It is not needed any more."""
        self._held.close()


def merge(
    registry: Registry,
    target: Branch,
    source: Branch,
    caller: Caller,
    *,
    strategy: str | None = None,
    paths: Iterable[bytes] = (),
    message: str = "",
    dry_run: bool = False,
) -> Report:
    """Merge what `source` has changed into `target`. With `dry_run` only say what would come of it."""
    prepared = finish(prepare(registry, target, source, caller, strategy=strategy, paths=paths, message=message))
    try:
        return prepared.report if dry_run else prepared.commit()
    finally:
        prepared.release()


def prepare(
    registry: Registry,
    target: Branch,
    source: Branch,
    caller: Caller,
    *,
    strategy: str | None = None,
    paths: Iterable[bytes] = (),
    message: str = "",
) -> Steps[Prepared]:
    """Find out, in steps, what a merge changes."""
    if target is source:
        raise Refusal(errno.EINVAL, "a branch cannot be merged into itself")
    if strategy is not None and strategy not in STRATEGIES:
        raise Refusal(errno.EINVAL, f"a strategy is one of {', '.join(STRATEGIES)}, not {strategy!r}")
    if open_merge(target) is not None:
        raise Refusal(errno.EBUSY, OPEN_CONFLICTS)
    theirs = frozen(registry, source)
    draft = Draft(registry, target)
    wanted = [path.strip(b"/") or b"." for path in paths]
    with ExitStack() as held:
        held.enter_context(registry.holding(draft.layer, theirs))
        # All that was merged so far, also into a state that is another branch's as well.
        inside = contained(registry, target.id, draft.layer.id), contained(registry, source.id, source.view.top.id)
        found = yield from MergeBase(registry, target.view.number, held).find(*inside)
        base = found or Layer(0)
        _check_paths(registry, wanted, (base, draft.before, theirs))
        registry.drafts.append(draft.view)
        held.callback(registry.drafts.remove, draft.view)
        report = Report()
        if base is theirs:
            return Prepared(report, None, lambda: None, held.pop_all())
        yield from _fill(registry, draft, report, (base, theirs), strategy, wanted)

        def commit() -> None:
            if open_merge(target) is not None:
                raise Refusal(errno.EBUSY, OPEN_CONFLICTS)
            nothing_new = bool(wanted) and not report.changes and not report.conflicts
            if not nothing_new:
                _commit(registry, draft, report, (target, source), (found, theirs), caller, message, bool(wanted))

        return Prepared(report, draft, commit, held.pop_all())


def _fill(
    registry: Registry,
    draft: Draft,
    report: Report,
    states: tuple[Layer, Layer],
    strategy: str | None,
    wanted: list[bytes],
) -> Generator[None, None, None]:
    """Put into the draft what the target is to become."""
    base, theirs = states
    three_way = ThreeWay(draft.view, base, draft.before, theirs, wanted)
    report.conflicts = yield from three_way.run()
    _decide(report, strategy, Taker(draft.view, Reader(registry.engine, theirs)))
    report.changes = yield from changes_in_steps(registry.engine, draft.before, draft.layer)
    if draft.layer.empty and (report.conflicts or report.decided) and not wanted:
        # Ours stays everywhere. It is another state all the same: the one before, which a snapshot or a branch may
        # have as well, has settled nothing.
        draft.view.set_attributes(draft.view.root)


def as_json(report: Report, target: Branch) -> Steps[dict[str, Any]]:
    """What a merge did, for programs; in steps."""
    snapshot = open_merge(target) if report.number else None
    return {
        "operation": report.number,
        "changes": (yield from json_in_steps(report.changes)),
        "conflicts": [conflict_as_json(conflict, snapshot) for conflict in report.conflicts],
        "decided": [conflict_as_json(conflict, None) for conflict in report.decided],
    }


def _check_paths(registry: Registry, paths: list[bytes], states: Iterable[Layer]) -> None:
    readers = [Reader(registry.engine, state) for state in states]
    for path in paths:
        if path != b"." and all(reader.find(path) is None for reader in readers):
            raise Refusal(errno.ENOENT, f"neither branch has {path.decode(errors='backslashreplace')!r}")


def _decide(report: Report, strategy: str | None, theirs: Taker) -> None:
    """Decide the conflicts by the strategy. Where theirs is not possible the conflict stays open."""
    if strategy is None:
        return
    found, impossible = report.conflicts, []
    for conflict, present in theirs.in_turn(in_order_of_taking(found)) if strategy == THEIRS else ():
        try:
            theirs.take(present)
        except Refusal:
            impossible.append(conflict)
    report.decided = [conflict for conflict in found if conflict not in impossible]
    report.conflicts = [conflict for conflict in found if conflict in impossible]


def _commit(
    registry: Registry,
    draft: Draft,
    report: Report,
    branches: tuple[Branch, Branch],
    states: tuple[Layer | None, Layer],
    caller: Caller,
    message: str,
    partial: bool,
) -> None:
    target, source = branches
    base, theirs = states
    report.number = registry.next_operation()

    def change(record: BranchRecord) -> BranchRecord:
        if partial:
            return record
        # What needed no change contains theirs already.
        result = draft.before.id if draft.layer.empty else draft.layer.id
        return replace(record, merged=with_merge(registry, record, (result, source.id, theirs.id)))

    def keep_sides(transaction: Transaction) -> None:
        if not report.conflicts:
            return
        record = SnapshotRecord(theirs.id, now(), caller.uid, conflicts=report.conflicts)
        transaction.put(snapshot_key(target.id, theirs_name(report.number)), refs.encode(record))
        if base is not None:
            record = SnapshotRecord(base.id, now(), caller.uid)
            transaction.put(snapshot_key(target.id, base_name(report.number)), refs.encode(record))

    name = source.name.decode(errors="backslashreplace")
    text = f"{name}: {message}" if message else name
    report.changed = draft.commit("merge", text, caller, change=change, also=keep_sides)
