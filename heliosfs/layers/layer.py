"""One layer: the changes of a tree above the state below it.

A layer *is* a state: what one reads through it and the layers below, down to a root. A branch refers to a
mutable layer, a snapshot to a frozen one.

Invariants:
  1. Only a layer that is not frozen takes changes, and it is below no other layer. The exception is the layer that
     stands for a base, a directory outside: it is below all others and takes in what that directory has had all along.
     What it is done with goes on to the sealed layer below it, whose root changes by that: see `settle`.
  2. The cutter may replace where bytes are (WRITTEN by CHUNK or INLINE) in any layer, never what they are.
  3. A sealed layer has a root that says the same as its deltas and all that was below; it keeps neither.
  4. `uncut` holds every inode number of which the layer has WRITTEN extents, `based` those with BASE extents.
  5. What was changed since the last flush is in `unflushed` (records), `touched` (inode and extents), `cleared` (all of
     an inode) or `settled` (an inode that this layer has no more): see `persistence`.
"""

from collections.abc import Callable

from heliosfs.base.keys import ENTRY, EXTENT, INODE
from heliosfs.base.records import WRITTEN, Extent
from heliosfs.layers.delta import FRESH, Change, Delta
from heliosfs.layers.extents import ExtentMap
from heliosfs.layers.span import Span


class Layer:
    """A state of a tree."""

    __slots__ = (
        "based", "below", "cleared", "deltas", "depth", "frozen", "id", "lister", "records", "rewrite", "root",
        "row_changed", "settled", "span", "stored", "touched", "uncut", "unflushed", "unflushed_records",
    )  # fmt: skip

    def __init__(self, layer_id: int, below: "Layer | None" = None, root: bytes | None = None) -> None:
        self.id = layer_id
        self.below: Layer | None = None
        self.root = root
        self.frozen = root is not None
        self.depth = 0
        """How many unsealed layers were below when this one was made: it says which layers have spans."""
        self.span: Span | None = None
        if below is not None:
            self.put_on(below)
        self.deltas: dict[int, Delta] = {}
        self.records = 0
        """How many records were put here: an upper bound of what it holds."""
        self.uncut: set[int] = set()
        self.based: set[int] = set()
        self.lister: Callable[[int], None] | None = None
        """Of the layer of a base: reads the entries of a directory if that is still to be done."""
        self.unflushed: list[list[Change]] = []
        self.unflushed_records = 0
        self.touched: set[int] = set()
        self.cleared: set[int] = set()
        self.settled: list[int] = []
        self.rewrite = False
        """The database is to forget first what records it has of this layer."""
        self.stored = False
        """The database has a row of this layer."""
        self.row_changed = True
        """The row in the database does not say what this layer is."""

    def __repr__(self) -> str:
        state = "sealed" if self.root is not None else "frozen" if self.frozen else "mutable"
        return f"<Layer {self.id} {state} {len(self.deltas)} inodes>"

    def put_on(self, below: "Layer") -> None:
        """Make a new layer one above another."""
        self.below = below
        self.depth = below.depth + 1 if below.root is None else 0

    @property
    def empty(self) -> bool:
        """Nothing was put here."""
        return not self.deltas and self.root is None

    @property
    def state(self) -> "Layer":
        """The layer that says all there is to say: this one, or the one below it while nothing was put here."""
        return self if self.below is None or self.deltas or self.root is not None else self.below

    def freeze(self) -> None:
        """Make it immutable. O(1)."""
        assert not self.frozen
        self.frozen = True
        self.row_changed = True

    def seal(self, root: bytes) -> None:
        """Say the same by a root. Nothing may be uncut."""
        assert self.frozen and not self.uncut and not self.based
        self.root = root
        self.below = None
        self.span = None
        self.deltas = {}
        self.unflushed, self.unflushed_records = [], 0
        self.touched, self.cleared = set(), set()
        # They are empty, but a set keeps room for all that it ever held, and states are kept by the thousand.
        self.uncut, self.based = set(), set()
        self.row_changed = True

    def after(self, ino: int) -> "Layer | None":
        """The next older layer to ask for an inode, from a layer whose depth is a multiple of SPAN_LAYERS."""
        return self._span().after(ino) if self.depth and self.root is None else self.below

    def after_for_name(self, directory: int, name: bytes) -> "Layer | None":
        """Likewise for a name."""
        return self._span().after_for_name(directory, name) if self.depth and self.root is None else self.below

    def _span(self) -> Span:
        if self.span is None:
            self.span = Span(self)
        return self.span

    def delta(self, ino: int) -> Delta:
        """The delta of an inode, made if absent."""
        delta = self.deltas.get(ino)
        if delta is None:
            delta = self.deltas[ino] = Delta()
        return delta

    def apply(self, changes: list[Change]) -> None:
        """Take the records of one operation in."""
        assert not self.frozen or self.lister is not None
        deltas = self.deltas
        for ino, kind, suffix, value in changes:
            delta = deltas.get(ino)
            if delta is None:
                delta = deltas[ino] = Delta()
            if kind == INODE:
                delta.inode = value  # type: ignore[assignment]
            elif kind == ENTRY:
                if delta.entries is None:
                    delta.entries = {}
                delta.entries[suffix] = value  # type: ignore[index,assignment]
            elif kind == FRESH:
                self._clear(ino, delta, value == 0)
                delta.put(FRESH, suffix, value)
            else:
                delta.put(kind, suffix, value)
                if kind == EXTENT:
                    self._touch(ino, delta)
        self.unflushed.append(changes)
        self.unflushed_records += len(changes)
        self.records += len(changes)

    def _clear(self, ino: int, delta: Delta, removed: bool) -> None:
        """Before a delta becomes fresh."""
        self.uncut.discard(ino)
        self.based.discard(ino)
        if removed and delta.made and not delta.stored:
            # Made and removed in this layer and never flushed: nobody needs to be told.
            del self.deltas[ino]
            self.touched.discard(ino)
            self.cleared.discard(ino)
        else:
            self.cleared.add(ino)

    def _touch(self, ino: int, delta: Delta) -> None:
        self.touched.add(ino)
        if delta.extents is not None and delta.extents.written:
            self.uncut.add(ino)
        else:
            self.uncut.discard(ino)
        if delta.extents is not None and delta.extents.based:
            self.based.add(ino)
        elif self.based:
            self.based.discard(ino)

    def write(self, ino: int, record: bytes, start: int, end: int, position: int) -> None:
        """Bytes [start, end) of an inode lie in the journal record at `position`; `record` is its inode now."""
        delta = self.deltas.get(ino)
        if delta is None:
            delta = self.deltas[ino] = Delta()
        delta.inode = record
        extents = delta.extents
        if extents is None:
            extents = delta.extents = ExtentMap()
        extents.set(start, end, WRITTEN, position, 0)
        self.touched.add(ino)
        self.uncut.add(ino)
        self.records += 1
        self.unflushed_records += 1

    def replace(self, ino: int, extents: list[Extent]) -> None:
        """The same bytes elsewhere: the cutter's way to say where they are now. Works on frozen layers."""
        delta = self.deltas[ino]
        assert delta.extents is not None
        for start, end, kind, source, skip in extents:
            delta.extents.set(start, end, kind, source, skip)
        self.unflushed_records += len(extents)
        self._touch(ino, delta)

    def settle(self, inos: list[int], root: bytes, records: int) -> None:
        """Of the layer of a base: what it says of some inodes, so many records, is from now on in the sealed layer
        below, by the root that this one gets."""
        below = self.below
        assert self.lister is not None and below is not None and below.root is not None
        for ino in inos:
            delta = self.deltas.pop(ino)
            self.touched.discard(ino)
            self.cleared.discard(ino)
            if delta.stored:
                self.settled.append(ino)
        self.records = max(len(self.deltas), self.records - records)
        below.root = root
        below.row_changed = True

    def detach(self, ino: int) -> "Layer":
        """A private layer with what this one says of an inode that is about to be removed.

        It keeps the content of an unlinked file for those who have it open.
        """
        private = Layer(0, self.below, None)
        delta = self.deltas.get(ino)
        if delta is not None:
            kept = Delta()
            kept.fresh = delta.fresh
            kept.inode, kept.symlink = delta.inode, delta.symlink
            kept.xattrs, kept.extents = delta.xattrs, delta.extents
            private.deltas[ino] = kept
            if ino in self.uncut:
                private.uncut.add(ino)
            if ino in self.based:
                private.based.add(ino)
        return private
