"""When a collection pays, and how long what was replaced or dropped is kept for undo.

How much is dead only a collection can tell, and it reads all nodes to do so. So it waits until there is reason to
think that much is: content that lost its place since the last one, states that nothing keeps any more, a store that
has doubled. The thresholds grow with the store, so that the work stays in proportion to what was stored; whoever
runs the steps bounds their share of the time.
"""

from heliosfs.base.clock import now
from heliosfs.volume import operations
from heliosfs.volume.registry import Registry
from heliosfs.volume.time_machine import TimeMachine

DROPPED_BYTES_MIN = 64 << 20
"""Less than this is not worth looking for."""

DROPPED_SHARE_MIN = 0.25
"""Nor is less than this share of what is stored."""

FULL_BYTES_MIN = 1 << 20
"""When the disk gets full, this is."""

GROWN_BYTES_MIN = 256 << 20
"""Growth without anything dropped also leaves dead objects: nodes of trees that nobody refers to any more."""


class Upkeep:
    """The decision, from what the registry counts."""

    def __init__(self, registry: Registry, time_machine: TimeMachine) -> None:
        self._registry = registry
        self._time_machine = time_machine
        self._let_go = 0
        """The registry's count at the last collection."""
        self.collections = 0

    def expire(self) -> None:
        """Let go of what has been kept for undo long enough."""
        self._registry.let_go_before(now() - operations.RETAINED_SECONDS * 1_000_000_000)

    def let_go(self, short_of_space: bool, keep_undo_seconds: float | None = None) -> None:
        """Before a collection: keep no longer what has been kept for undo long enough, and when space is short no state
        of the time machine. `keep_undo_seconds` counts for both, where it is given."""
        self.expire()
        moment = 0
        if keep_undo_seconds is not None:
            moment = now() - int(keep_undo_seconds * 1e9)
            self._registry.let_go_before(moment)
        self._time_machine.let_go(now() if short_of_space else moment)

    def pays(self, short_of_space: bool = False) -> bool:
        """Whether a collection will probably free much, or at least something that is missed."""
        registry = self._registry
        if short_of_space and registry.engine.dropped_bytes >= FULL_BYTES_MIN:
            return True
        stored = registry.engine.objects.statistics.stored_bytes
        if registry.engine.dropped_bytes >= max(DROPPED_BYTES_MIN, DROPPED_SHARE_MIN * stored):
            return True
        if registry.let_go > self._let_go:
            return stored >= DROPPED_BYTES_MIN
        return stored - registry.collected_bytes >= max(GROWN_BYTES_MIN, registry.collected_bytes)

    def collected(self) -> None:
        """A collection has come to its end."""
        registry = self._registry
        self.collections += 1
        self._let_go = registry.let_go
        registry.engine.dropped_bytes = 0
        registry.collected_bytes = max(registry.engine.objects.statistics.stored_bytes, 0)
