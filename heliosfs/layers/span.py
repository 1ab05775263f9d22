"""A way past many layers at once: which of the 31 layers below one say anything of an inode or a name.

A branch that is checkpointed a thousand times in a row has a thousand layers below it until they are sealed, and
nearly none of them says anything of the inode one asks for. So every 32nd layer gets a span when something is first
read through it: a look-up then asks one dictionary instead of 31.

Invariants:
  1. A span never changes: the layers below are frozen, and the cutter changes no keys. The layer of a base, to which
     names are still to come, is in none.
  2. It counts only while its oldest layer is unsealed. Layers are sealed from the oldest on; once that one is, the
     sealed root is the shorter way, and what lies below it may have been collected.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from heliosfs.layers.layer import Layer

SPAN_LAYERS: Final = 32
SPAN_MASK: Final = SPAN_LAYERS - 1

SPAN_RECORDS_MAX: Final = 20_000
"""With more records than this in the layers no span is made: it would take more than some milliseconds."""


class Span:
    """The layers below `layer`, down to the next one that has a span."""

    __slots__ = ("_first", "_fresh", "_inodes", "_names", "_oldest", "_skip")

    def __init__(self, layer: "Layer") -> None:
        self._first = layer.below
        self._inodes: dict[int, Layer] = {}
        self._fresh: dict[int, Layer] = {}
        self._names: dict[tuple[int, bytes], Layer] = {}
        self._oldest: Layer | None = None
        self._skip: Layer | None = None
        covered = self._covered()
        if len(covered) == SPAN_LAYERS - 1 and sum(each.records for each in covered) <= SPAN_RECORDS_MAX:
            for each in reversed(covered):
                self._add(each)
            self._oldest = covered[-1]
            self._skip = covered[-1].below

    def _covered(self) -> "list[Layer]":
        covered: list[Layer] = []
        at = self._first
        while at is not None and at.root is None and at.lister is None and len(covered) < SPAN_LAYERS - 1:
            covered.append(at)
            at = at.below
        return covered

    def _add(self, layer: "Layer") -> None:
        for ino, delta in layer.deltas.items():
            self._inodes[ino] = layer
            if delta.fresh:
                self._fresh[ino] = layer
            for name in delta.entries or ():
                self._names[ino, name] = layer

    def after(self, ino: int) -> "Layer | None":
        """The newest of the layers that says anything of an inode, else the one to go on with."""
        if self._oldest is None or self._oldest.root is not None:
            return self._first
        return self._inodes.get(ino, self._skip)

    def after_for_name(self, directory: int, name: bytes) -> "Layer | None":
        """Likewise for a name in a directory."""
        if self._oldest is None or self._oldest.root is not None:
            return self._first
        named, fresh = self._names.get((directory, name)), self._fresh.get(directory)
        if named is None or (fresh is not None and fresh.id > named.id):
            return self._skip if fresh is None else fresh
        return named
