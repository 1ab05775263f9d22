"""The extent map of one inode in one layer, against a dictionary of bytes."""

from hypothesis import given
from hypothesis import strategies as st

from heliosfs.base.records import BASE, CHUNK, HOLE, WRITTEN
from heliosfs.layers.extents import END, ExtentMap
from heliosfs.store.journal import OFFSET_BITS

RANGES = st.tuples(st.integers(0, 60), st.integers(1, 30), st.sampled_from([HOLE, WRITTEN, CHUNK, BASE]))


def source_of(kind: int, number: int) -> int | bytes | None:
    return None if kind == HOLE else number if kind == WRITTEN else number.to_bytes(8, "big") * 4


@given(st.lists(RANGES, max_size=30), st.integers(0, 70), st.integers(1, 40))
def test_the_last_that_was_set_is_found(ranges: list[tuple[int, int, int]], start: int, length: int) -> None:
    extents = ExtentMap()
    model: dict[int, tuple[int, object, int]] = {}
    for number, (low, size, kind) in enumerate(ranges):
        source = source_of(kind, number)
        extents.set(low, low + size, kind, source, 5)
        model |= {low + at: (kind, source, 5 + at) for at in range(size)}
        extents.check()
    found: list[tuple[int, int, int, object, int]] = []
    gaps = extents.cover(start, start + length, found)  # type: ignore[arg-type]
    covered = {
        low + at: (kind, source, skip + at) for low, high, kind, source, skip in found for at in range(high - low)
    }
    assert covered == {at: model[at] for at in range(start, start + length) if at in model}
    uncovered = {at for low, high in gaps for at in range(low, high)}
    assert uncovered == set(range(start, start + length)) - covered.keys()


@given(st.lists(RANGES, max_size=20), st.integers(0, 70))
def test_forget_says_nothing_from_there_on(ranges: list[tuple[int, int, int]], start: int) -> None:
    extents = ExtentMap()
    for number, (low, size, kind) in enumerate(ranges):
        extents.set(low, low + size, kind, source_of(kind, number), 0)
    before = [extent for extent in extents.extents() if extent[0] < start]
    extents.forget(start)
    extents.check()
    assert [(low, min(high, start)) for low, high, *_ in before] == [(low, high) for low, high, *_ in extents.extents()]


@given(st.lists(RANGES, max_size=20))
def test_what_is_dirty_leads_from_the_flushed_to_the_present_state(ranges: list[tuple[int, int, int]]) -> None:
    """A flush writes the dirty starts only: applied to what was flushed before they must give the whole map."""
    extents = ExtentMap()
    flushed: dict[int, object] = {}
    for number, (low, size, kind) in enumerate(ranges):
        extents.set(low, low + size, kind, source_of(kind, number), 0)
        if number % 3 == 0:
            for start in extents.dirty:
                piece = extents.get(start)
                flushed.pop(start, None)
                if piece is not None:
                    flushed[start] = piece
            extents.dirty.clear()
            assert flushed == {extent[0]: extent for extent in extents.extents()}


@given(st.lists(RANGES, max_size=30), st.data())
def test_written_pieces_are_found_in_order(ranges: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """As the cutter does: look for the first one, replace it, again; and writes in between."""
    extents = ExtentMap()
    for number, (low, size, kind) in enumerate(ranges):
        extents.set(low, low + size, kind, source_of(kind, number << OFFSET_BITS), 0)
        if extents.written and data.draw(st.booleans()):
            index = extents.first_written()
            assert index == min(at for at, piece in enumerate(extents.pieces) if piece[1] == WRITTEN)
            extents.set(extents.starts[index], extents.pieces[index][0], CHUNK, bytes(32), 0)
        extents.check()
        assert extents.segments() == {piece[2] >> OFFSET_BITS for piece in extents.pieces if piece[1] == WRITTEN}  # type: ignore[operator]


def test_a_hole_without_end_hides_everything() -> None:
    extents = ExtentMap()
    extents.set(10, END, HOLE, None, 0)
    found: list[tuple[int, int, int, object, int]] = []
    assert extents.cover(0, 1 << 50, found) == [(0, 10)]  # type: ignore[arg-type]
    assert found == [(10, 1 << 50, HOLE, None, 0)]
