"""A flush: bring the database up to a position of the journal, so that older segments may go.

Seven phases, in this order. `begin`, `index`, `outdate` and `finish` belong to the thread that owns the volume; `sync`,
`write` and `unlink` take long and run in a worker thread while requests go on:

    begin    note the journal's position, gather what the database does not know yet
    sync     the journal and the packs are on disk up to there
    index    add the index of the objects that were synced
    write    one atomic batch, then synced
    outdate  note the segments that no extent points into and replay no longer needs, and the packs that are empty
    unlink   their files go; `finish` sees to what is left of them, so this and the one before may be left out
    finish   they are forgotten

What a crash between any two leaves is either the old database with a journal that goes on from it, or the new.
"""

from contextlib import suppress

from heliosfs.layers import persistence
from heliosfs.layers.layer import Layer
from heliosfs.store.database import OPERATIONS, REFS, SETTINGS
from heliosfs.store.journal import OFFSET_BITS
from heliosfs.store.objects import Dead
from heliosfs.store.store import Store
from heliosfs.volume import operations
from heliosfs.volume.registry import Registry

POSITION_KEY = b"volume/position"
NEXT_INO_KEY = b"volume/next-ino"
NEXT_LAYER_KEY = b"volume/next-layer"
NEXT_BRANCH_KEY = b"volume/next-branch"
COLLECTED_KEY = b"volume/collected"
DROPPED_KEY = b"volume/dropped"
NUMBER_BYTES = 8


class Flush:
    """One flush, from `begin` to `finish`."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._batch = store.database.batch()
        self.position = 0
        self._layers: list[Layer] = []
        self._refs: set[bytes] = set()
        self._operations = 0
        self._forgotten: list[int] = []
        self._pinned: set[int] = set()
        self._swept: set[int] = set()
        self._dead = Dead(frozenset(), frozenset())
        self._packs: frozenset[int] = frozenset()
        self._segments: list[int] = []

    def begin(self) -> None:
        """Gather the changes since the last flush."""
        registry, batch = self._registry, self._batch
        self._store.journal.leave_segment()
        self.position = self._store.journal.head
        # What the database will say points into these. The cutter may go on meanwhile, but a crash before the
        # next flush brings the extents back as they are now.
        self._pinned = registry.pinned_segments()
        if registry.sweep_due:
            registry.sweep()
        # Only what was dead when the states were gathered: what dies between here and the end of `sync` may be
        # in use in the history that a power cut leaves.
        self._dead = self._store.objects.dead()
        self._swept, registry.swept = registry.swept, set()
        for layer_id in self._swept:
            persistence.remove(layer_id, batch)
        for layer in registry.layers.values():
            if layer.row_changed or layer.unflushed or layer.touched or layer.cleared or layer.settled:
                self._layers.append(layer)
                persistence.collect(layer, batch)
        self._refs, registry.changed_refs = registry.changed_refs, set()
        for ref in self._refs:
            value = registry.refs.get(ref)
            if value is None:
                batch.delete(REFS, ref)
            else:
                batch.put(REFS, ref, value)
        self._operations = len(registry.new_operations)
        for operation in registry.new_operations:
            batch.put(OPERATIONS, _number(operation.number), operations.encode(operation))
        self._forgotten, registry.forgotten_operations = registry.forgotten_operations, []
        for number in self._forgotten:
            batch.delete(OPERATIONS, _number(number))
        for key, number in (
            (POSITION_KEY, self.position),
            (NEXT_INO_KEY, registry.engine.next_ino),
            (NEXT_LAYER_KEY, registry.next_layer),
            (NEXT_BRANCH_KEY, registry.next_branch),
            (COLLECTED_KEY, registry.collected_bytes),
            (DROPPED_KEY, registry.engine.dropped_bytes),
        ):
            batch.put(SETTINGS, key, _number(number))

    def sync(self) -> None:
        """Worker thread. The journal and the packs reach the disk."""
        self._store.journal.sync()
        self._store.objects.sync()

    def index(self) -> None:
        """Add the index of what was synced."""
        self._store.objects.write_index(self._batch, self._dead)

    def write(self) -> None:
        """Worker thread. The batch reaches the disk."""
        self._store.write(self._batch)

    def outdate(self) -> None:
        """Note the journal segments and packs that are no longer needed."""
        # Named by no entry any more: the batch that said so, and every one before it, is on disk.
        self._packs = self._store.objects.removable_packs()
        before = self.position >> OFFSET_BITS
        segments = self._store.journal.segments()
        self._segments = [segment for segment in segments if segment < before and segment not in self._pinned]

    def unlink(self) -> None:
        """Worker thread. Their files go, which takes some milliseconds for each. What fails is tried again by
        `finish`."""
        with suppress(OSError):
            self._store.objects.unlink_packs(self._packs)
            for segment in self._segments:
                self._store.journal.unlink(segment)

    def finish(self) -> None:
        """Forget them."""
        self.outdate()
        self._store.objects.remove_packs(self._packs)
        del self._registry.new_operations[: self._operations]
        for segment in self._segments:
            self._store.journal.drop(segment)

    def fail(self) -> None:
        """The flush did not happen: the next one has to write all of it."""
        registry = self._registry
        for layer in self._layers:
            if layer.id in registry.layers:
                persistence.remember_all(layer)
        registry.changed_refs |= self._refs
        registry.swept |= self._swept
        registry.forgotten_operations += self._forgotten


def _number(number: int) -> bytes:
    return number.to_bytes(NUMBER_BYTES, "big")
