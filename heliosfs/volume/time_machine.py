"""The time machine: states that are kept by themselves while there is change, fewer the older they are.

Each is a frozen state, taken as a snapshot is: nothing is copied or written but one small record for all branches
that have changed. They are called by the moment, are not among the named snapshots and not in the operation log.

Invariants:
  1. A branch that has not changed since its last such state gets none, and an idle volume costs a comparison.
  2. The newest one of a branch is always kept. Of those of one minute (hour, day) the first one stays, so that what
     stands for the minute may stand for the hour later.
"""

from datetime import UTC, datetime

from heliosfs.base.clock import now
from heliosfs.volume import refs, settings
from heliosfs.volume.branch import Branch, Snapshot
from heliosfs.volume.refs import SnapshotRecord, timed_key
from heliosfs.volume.registry import Registry
from heliosfs.volume.transaction import Transaction

WORKING = "for a command"
"""The message of a state that stands for no time: see `working_states`."""
WORKING_AGE_MAX = 86400 * 1_000_000_000
"""A command that takes longer than this for one state is taken for dead."""

_SECOND = 1_000_000_000
_MINUTE, _HOUR, _DAY = 60 * _SECOND, 3600 * _SECOND, 86400 * _SECOND


class TimeMachine:
    """Takes and thins the states of all branches."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._position = -1
        """The journal's head when there was last a look: what was not written to has not changed."""
        self._looked = now()
        self._thinned = 0
        self.dropped: list[Snapshot] = []
        """States that are gone, until someone takes them from here."""

    def due(self) -> bool:
        """Whether there may be something to keep."""
        if self._registry.engine.journal.head == self._position:
            return False
        interval = settings.duration(settings.value_of(self._registry, settings.INTERVAL))
        return bool(interval) and not 0 <= now() - self._looked < interval

    def run(self) -> None:
        """Keep the state of each branch that has changed, and drop what is superfluous then."""
        moment = now()
        self._looked = moment
        transaction = Transaction(self._registry)
        kept = [branch for branch in self._registry.branches.values() if self._keep(transaction, branch, moment)]
        dropped = self._thin(transaction, moment) if kept and moment - self._thinned >= _MINUTE else []
        if kept:
            transaction.commit()
        self._position = self._registry.engine.journal.head
        self.dropped += dropped

    def let_go(self, before: int) -> None:
        """Drop the states from before this moment: their space is missed more than they are. Those that are made for a
        command are in use."""
        transaction = Transaction(self._registry)
        branches = self._registry.branches.values()
        kept = (each for branch in branches for each in branch.timed.values() if is_kept(each))
        dropped = [each for each in kept if each.created < before]
        for snapshot in dropped:
            transaction.drop(timed_key(snapshot.branch.id, snapshot.name))
        if dropped:
            transaction.commit()
            self.dropped += dropped

    def _keep(self, transaction: Transaction, branch: Branch, moment: int) -> bool:
        newest = next((each for each in reversed(branch.timed.values()) if is_kept(each)), None)
        top = branch.view.top
        if top.empty and top.below is not None:
            if top.below.id == (branch.record.base if newest is None else newest.record.state):
                return False
        name = name_of(moment)
        if name in branch.timed:
            return False
        state = transaction.freeze(branch)
        transaction.set(timed_key(branch.id, name), refs.encode(SnapshotRecord(state, moment, branch.uid)))
        return True

    def _thin(self, transaction: Transaction, moment: int) -> list[Snapshot]:
        self._thinned = moment
        limits = [
            (settings.duration(settings.value_of(self._registry, name)), width)
            for name, width in (
                (settings.KEEP_ALL, 1),
                (settings.KEEP_MINUTES, _MINUTE),
                (settings.KEEP_HOURS, _HOUR),
                (settings.KEEP_DAYS, _DAY),
            )
        ]
        dropped: list[Snapshot] = []
        for branch in self._registry.branches.values():
            kept = [each for each in branch.timed.values() if is_kept(each)]
            working = [each for each in branch.timed.values() if not is_kept(each)]
            dropped += superfluous(kept, limits, moment)
            dropped += [each for each in working if moment - each.created > WORKING_AGE_MAX]
        for snapshot in dropped:
            transaction.drop(timed_key(snapshot.branch.id, snapshot.name))
        return dropped


def is_kept(snapshot: Snapshot) -> bool:
    """Whether a state stands for the time by which it is called."""
    return snapshot.record.message != WORKING


def superfluous(states: list[Snapshot], limits: list[tuple[int, int]], moment: int) -> list[Snapshot]:
    """Those of a branch's states, oldest first, that are not to be kept. `limits` are pairs of an age and, up to that
    age, the width of the spans of time of which one is kept each."""
    found = []
    seen: set[tuple[int, int]] = set()
    for snapshot in states[:-1]:
        age = moment - snapshot.created
        width = next((width for limit, width in limits if age <= limit), 0)
        span = (width, snapshot.created // width if width else 0)
        if not width or span in seen:
            found.append(snapshot)
        seen.add(span)
    return found


def name_of(moment: int) -> bytes:
    """What the state of a moment is called: the second in which it ended, in UTC."""
    second = datetime.fromtimestamp(-(-moment // _SECOND), UTC)
    return second.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
