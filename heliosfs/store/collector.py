"""The collector: forgets dead objects and rewrites packs that are mostly dead, beside live traffic.

First the index is walked once: dead entries are condemned, and live bytes are counted per pack. Then what
is live in the mostly dead packs is appended to the present pack, like a put, in the order in which it lies.
A pack may go once the index in the database names nothing in it: the flush sees to that.

Must never move bytes that do not check: a pack with a damaged live object stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

from heliosfs.base.errors import Corruption
from heliosfs.store.packs import HEADER_BYTES, Location

if TYPE_CHECKING:
    from heliosfs.store.objects import Objects

STEP_ENTRIES = 100
"""Index entries looked at in one step: about 0.3 ms."""

STEP_BYTES = 128 << 10
"""Bytes moved in one step: about 0.2 ms, and at most one object beyond."""

LIVE_SHARE_MIN = 0.5
"""A pack with a smaller share of live bytes is rewritten: each byte freed then costs at most one moved."""

PACKS_AT_ONCE = 16
"""Packs whose live entries are held in memory together: some 100,000 entries, about 20 MB."""


def collect(objects: Objects, live: Callable[[bytes], bool]) -> Iterator[None]:
    """See `Objects.collect`."""
    try:
        counts = yield from _survey(objects, live)
        sparse = objects.sparse_packs(counts, LIVE_SHARE_MIN)
        for first in range(0, len(sparse), PACKS_AT_ONCE):
            yield from _rewrite(objects, frozenset(sparse[first : first + PACKS_AT_ONCE]))
    finally:
        objects.end_protection()


def _survey(objects: Objects, live: Callable[[bytes], bool]) -> Generator[None, None, dict[int, int]]:
    """Condemn what is dead; the live bytes of each pack."""
    counts: dict[int, int] = {}
    for seen, (digest, _, location) in enumerate(objects.iterate(), start=1):
        if objects.is_protected(digest) or live(digest):
            size = HEADER_BYTES + location.stored_length
            counts[location.pack] = counts.get(location.pack, 0) + size
        else:
            objects.condemn(digest, location)
        if seen % STEP_ENTRIES == 0:
            yield
    return counts


def _rewrite(objects: Objects, packs: frozenset[int]) -> Generator[None, None, None]:
    """Move the live objects of `packs` away and give the packs up, but for those with damage."""
    entries: list[tuple[int, int, bytes, Location]] = []
    # The condemned come along, or a long run of them would make a long step; `move` leaves them behind.
    for seen, (digest, _, location) in enumerate(objects.iterate(condemned=True), start=1):
        if location.pack in packs:
            entries.append((location.pack, location.offset, digest, location))
        if seen % STEP_ENTRIES == 0:
            yield
    entries.sort()
    damaged: set[int] = set()
    moved = 0
    for pack, _, digest, location in entries:
        try:
            objects.move(digest, location)
        except Corruption:
            damaged.add(pack)
        moved += location.stored_length
        if moved >= STEP_BYTES:
            moved = 0
            yield
    for pack in packs - damaged:
        objects.give_up(pack)
