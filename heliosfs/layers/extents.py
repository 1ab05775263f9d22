"""Which bytes of one file a layer holds: a map from ranges to their sources.

Invariants:
  1. `starts` is sorted and strictly increasing; `pieces[i]` belongs to `starts[i]`.
  2. Ranges do not overlap and are not empty: starts[i] < ends[i] <= starts[i + 1].
  3. `dirty` holds every start whose piece was set or removed since the last flush.
  4. `written` is the number of pieces whose bytes lie in the journal, `based` of those that lie in a base.
  5. No written piece starts before `_written_from`.

A range that the map does not cover is not a hole: the layer says nothing of it, and what lies below
shows through. A hole is a piece of kind HOLE, up to `END` when everything behind is gone.
Hiding ranges, instead of shadowing the keys below, is what lets the cutter replace the pieces of any
layer without touching the layers above it.
"""

from bisect import bisect_left, bisect_right
from typing import Final

from heliosfs.base.records import BASE, HOLE, WRITTEN, Extent, Source
from heliosfs.store.journal import OFFSET_BITS

END: Final = 1 << 63
"""Beyond every file: the end of a hole that has none."""

Piece = tuple[int, int, Source, int]
"""(end, kind, source, skip); the start is in `starts`."""
Gap = tuple[int, int]


class ExtentMap:
    """The ranges of one inode in one layer."""

    __slots__ = ("_segments", "_written_from", "based", "dirty", "pieces", "starts", "written")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.pieces: list[Piece] = []
        self.dirty: set[int] = set()
        self.written = 0
        self.based = 0
        self._written_from = END
        self._segments: frozenset[int] | None = None
        """What `segments` said, until something changes."""

    def __len__(self) -> int:
        return len(self.starts)

    def set(self, start: int, end: int, kind: int, source: Source, skip: int) -> None:
        """Let [start, end) be these bytes, whatever the map said of it before."""
        assert start < end
        starts = self.starts
        self._segments = None
        if kind == WRITTEN and start < self._written_from:
            self._written_from = start
        if starts and start < self.pieces[-1][0]:
            if self._split(start, end, kind, source, skip):
                return
            index = self._clear(start, end)
        else:
            index = len(starts)
        starts.insert(index, start)
        self.pieces.insert(index, (end, kind, source, skip))
        self.dirty.add(start)
        if kind == WRITTEN:
            self.written += 1
        elif kind == BASE:
            self.based += 1

    def _split(self, start: int, end: int, kind: int, source: Source, skip: int) -> bool:
        """The same within one piece: what random writes are mostly. False when it is not."""
        starts, pieces = self.starts, self.pieces
        index = bisect_right(starts, start) - 1
        if index < 0 or pieces[index][0] < end:
            return False
        around_start, around = starts[index], pieces[index]
        around_end, around_kind, around_source, around_skip = around
        made_starts, made = [start], [(end, kind, source, skip)]
        if around_start < start:
            made_starts.insert(0, around_start)
            made.insert(0, (start, around_kind, around_source, around_skip))
        if end < around_end:
            made_starts.append(end)
            made.append((around_end, around_kind, around_source, around_skip + end - around_start))
        starts[index : index + 1] = made_starts
        pieces[index : index + 1] = made
        self.dirty.update(made_starts)
        self.written += (kind == WRITTEN) + (len(made) - 2) * (around_kind == WRITTEN)
        self.based += (kind == BASE) + (len(made) - 2) * (around_kind == BASE)
        return True

    def _clear(self, start: int, end: int) -> int:
        """Forget [start, end); the index at which a piece with that start belongs."""
        starts, pieces = self.starts, self.pieces
        first = bisect_right(starts, start) - 1
        if first < 0 or pieces[first][0] <= start:
            first += 1
        last = bisect_left(starts, end, first)
        if first == last:
            return first
        kept: list[tuple[int, Piece]] = []
        head_start, head = starts[first], pieces[first]
        if head_start < start:
            kept.append((head_start, (start, *head[1:])))
        tail_start, tail = starts[last - 1], pieces[last - 1]
        if tail[0] > end:
            kept.append((end, (tail[0], tail[1], tail[2], tail[3] + end - tail_start)))
        self.dirty.update(starts[first:last])
        self.dirty.update(at for at, _ in kept)
        self.written += sum(piece[1] == WRITTEN for _, piece in kept)
        self.written -= sum(piece[1] == WRITTEN for piece in pieces[first:last])
        if self.based:
            self.based += sum(piece[1] == BASE for _, piece in kept)
            self.based -= sum(piece[1] == BASE for piece in pieces[first:last])
        starts[first:last] = [at for at, _ in kept]
        pieces[first:last] = [piece for _, piece in kept]
        return bisect_left(starts, start)

    def forget(self, start: int) -> None:
        """Say nothing of [start, END) any more: an end of file, where nothing lies below."""
        self._segments = None
        self._clear(start, END)

    def first_written(self) -> int:
        """The index of the first piece that lies in the journal; there is one. To ask again and again while they are
        replaced from the first one on takes one look at each."""
        assert self.written
        pieces = self.pieces
        index = bisect_left(self.starts, self._written_from)
        while pieces[index][1] != WRITTEN:
            index += 1
        self._written_from = self.starts[index]
        return index

    def segments(self) -> frozenset[int]:
        """The segments of the journal in which there are pieces."""
        if self._segments is None:
            self._segments = frozenset(
                {source >> OFFSET_BITS for _, kind, source, _ in self.pieces if kind == WRITTEN}  # type: ignore[operator]
            )
        return self._segments

    def cover(self, start: int, end: int, found: list[Extent]) -> list[Gap]:
        """Append what the map holds of [start, end) to `found`; the parts that it does not cover."""
        starts, pieces = self.starts, self.pieces
        first = bisect_right(starts, start) - 1
        if first < 0 or pieces[first][0] <= start:
            first += 1
        gaps: list[Gap] = []
        at = start
        for index in range(first, len(starts)):
            piece_start = starts[index]
            if piece_start >= end:
                break
            if piece_start > at:
                gaps.append((at, piece_start))
            piece_end, kind, source, skip = pieces[index]
            low = max(piece_start, start)
            at = min(piece_end, end)
            found.append((low, at, kind, source, skip + low - piece_start))
        if at < end:
            gaps.append((at, end))
        return gaps

    def get(self, start: int) -> Extent | None:
        """The piece that starts at `start`."""
        index = bisect_left(self.starts, start)
        if index == len(self.starts) or self.starts[index] != start:
            return None
        return (start, *self.pieces[index])

    def extents(self) -> list[Extent]:
        """All pieces in order."""
        return [(start, *piece) for start, piece in zip(self.starts, self.pieces, strict=True)]

    def check(self) -> None:
        """Assert the invariants (for tests)."""
        assert len(self.starts) == len(self.pieces)
        at = -1
        for start, (end, kind, source, skip) in zip(self.starts, self.pieces, strict=True):
            assert at <= start < end and skip >= 0, (at, start, end)
            assert (source is None) == (kind == HOLE)
            at = end
        written = [start for start, piece in zip(self.starts, self.pieces, strict=True) if piece[1] == WRITTEN]
        assert self.written == len(written) and all(start >= self._written_from for start in written)
        assert self.based == sum(piece[1] == BASE for piece in self.pieces)
