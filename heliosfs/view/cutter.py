"""The cutter: makes objects of written bytes that still lie in the journal.

It works in steps of at most `STEP_BYTES`, from the request loop's idle time, on any layer, frozen or not: it
changes where bytes are, never what they are. A step is atomic: nothing else runs in it.
"""

from heliosfs.base.limits import INLINE_BYTES_MAX
from heliosfs.base.records import BASE, CHUNK, HOLE, INLINE, WRITTEN, Extent
from heliosfs.layers.extents import ExtentMap
from heliosfs.layers.layer import Layer
from heliosfs.store import objects
from heliosfs.store.chunker import chunks
from heliosfs.view.content import read_extent
from heliosfs.view.engine import Engine

STEP_BYTES = 512 << 10
"""Cut at one time: about 1 ms of chunking, hashing and compressing."""

RUN_BYTES_MIN = 32 << 10
"""A run counts as so many bytes of a step at least: to store a page of 4 KiB takes about as long."""

TAIL_BYTES_MAX = 16 << 10
"""A piece before the written bytes that is shorter is cut again together with them, so that a file which
grows by small appends does not end up as many small chunks."""


def cut(engine: Engine, layer: Layer, ino: int) -> bool:
    """Cut some of what is written of an inode in a layer, up to about `STEP_BYTES`; whether more is left.

    Raises `Corruption` when the written bytes do not check.
    """
    delta = layer.deltas.get(ino)
    extents = delta.extents if delta is not None else None
    if extents is None or not extents.written:
        layer.uncut.discard(ino)
        return False
    spent = 0
    while extents.written:
        run = _first_run(extents)
        size = run[-1][1] - run[0][0]
        if spent and spent + size > STEP_BYTES:
            break
        layer.replace(ino, _stored(engine, extents, run))
        spent += max(size, RUN_BYTES_MIN)
    return ino in layer.uncut


def _stored(engine: Engine, extents: ExtentMap, run: list[Extent]) -> list[Extent]:
    """Store what a run reads as; the extents that say the same."""
    data = _read(engine, run)
    start, end = run[0][0], run[-1][1]
    if len(data) <= INLINE_BYTES_MAX:
        return [(start, end, INLINE, bytes(data), 0)]
    return _cut(engine, start, data, _continues(extents, end))


def take_in(engine: Engine, layer: Layer, ino: int) -> bool:
    """Make objects of a piece of what a file has in the base; whether more is left. Raises what reading it raises."""
    delta = layer.deltas.get(ino)
    extents = delta.extents if delta is not None else None
    if extents is None or not extents.based:
        layer.based.discard(ino)
        return False
    start, end, kind, source, skip = next(extent for extent in extents.extents() if extent[2] == BASE)
    stop = min(end, start + STEP_BYTES)
    data = read_extent(engine, (start, stop, kind, source, skip))
    if len(data) <= INLINE_BYTES_MAX:
        layer.replace(ino, [(start, stop, INLINE, bytes(data), 0)])
    else:
        layer.replace(ino, _cut(engine, start, data, stop < end))
    return ino in layer.based


def _first_run(extents: ExtentMap) -> list[Extent]:
    """Adjacent pieces from the first written one on, up to `STEP_BYTES`, with a short tail before them."""
    pieces, starts = extents.pieces, extents.starts
    index = first = extents.first_written()
    if index and pieces[index - 1][0] == starts[index] and pieces[index - 1][1] in (CHUNK, INLINE):
        if starts[index] - starts[index - 1] < TAIL_BYTES_MAX:
            first = index - 1
    run: list[Extent] = []
    total = 0
    for at in range(first, len(pieces)):
        adjacent = not run or run[-1][1] == starts[at]
        if not adjacent or pieces[at][1] == HOLE or (at > index and pieces[at][1] != WRITTEN) or total >= STEP_BYTES:
            break
        run.append((starts[at], *pieces[at]))
        total += pieces[at][0] - starts[at]
    return run


def _read(engine: Engine, run: list[Extent]) -> bytes | memoryview:
    if len(run) == 1:
        return read_extent(engine, run[0])
    return b"".join([read_extent(engine, extent) for extent in run])


def _continues(extents: ExtentMap, end: int) -> bool:
    """Whether written bytes follow at `end`: then the last chunk's boundary is not yet known."""
    following = extents.get(end)
    return following is not None and following[2] == WRITTEN


def _cut(engine: Engine, start: int, data: bytes | memoryview, continues: bool) -> list[Extent]:
    found: list[Extent] = []
    pieces = list(chunks(data))
    if continues and len(pieces) > 1:
        pieces.pop()
    for chunk in pieces:
        end = start + len(chunk)
        found.append((start, end, CHUNK, engine.objects.put(chunk, objects.CHUNK), 0))
        start = end
    return found
