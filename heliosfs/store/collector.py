"""The collector: forgets dead objects and rewrites packs that are mostly dead, beside live traffic.

First the index is walked once: dead entries are condemned, and live bytes are counted per pack. Then what
is live in the mostly dead packs is appended to the present pack, like a put, in the order in which it lies.
A pack may go once the index in the database names nothing in it: the flush sees to that.

Must never move bytes that do not check: a pack with a damaged live object stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from heliosfs.base.errors import Corruption
from heliosfs.store.index import UNKNOWN, Statistics
from heliosfs.store.packs import HEADER_BYTES, Location

if TYPE_CHECKING:
    from heliosfs.store.objects import Objects

STEP_ENTRIES = 100
"""Index entries looked at in one step: about 0.3 ms."""

STEP_BYTES = 128 << 10
"""Bytes moved in one step: about 0.2 ms, and at most one object beyond."""

LIVE_SHARE_MIN = 0.5
"""A pack with a smaller share of live bytes is rewritten: each byte freed then costs at most one moved."""

LIVE_SHARE_MIN_TIGHT = 0.9
"""The same when space is short: it is worth more than the work."""

PACKS_AT_ONCE = 16
"""Packs whose live entries are held in memory together: some 100,000 entries, about 20 MB."""

Entry = tuple[int, bytes, Location]
"""Offset, digest and location of an object that lives."""


class Gone(NamedTuple):
    """The objects that a collection let go, and the bytes they took in packs."""

    objects: int
    bytes: int


def collect(objects: Objects, live: Callable[[bytes], bool]) -> Generator[None, None, Gone]:
    """See `Objects.collect`."""
    try:
        gone, counts = yield from survey(objects, live)
        yield from compact(objects, sparse(objects, counts, LIVE_SHARE_MIN))
        return gone
    finally:
        objects.end_protection()


def sparse(objects: Objects, counts: dict[int, int], share: float) -> list[int]:
    """The packs of which less than `share` is live, those first that need the least room.

    `counts` are the live bytes of each.
    """
    return sorted(objects.sparse_packs(counts, share), key=lambda pack: counts.get(pack, 0))


def compact(objects: Objects, packs: list[int]) -> Generator[None, None, None]:
    """Rewrite packs in this order. OSError on a full disk: it may be called again with the same ones."""
    for first in range(0, len(packs), PACKS_AT_ONCE):
        yield from _rewrite(objects, packs[first : first + PACKS_AT_ONCE])


def survey(
    objects: Objects, live: Callable[[bytes], bool]
) -> Generator[None, None, tuple[Gone, dict[int, int]]]:
    """Condemn what is dead; what that was, and the live bytes of each pack. Everything is counted anew by the way.

    Corruption when it is not known in which pack something live lies: no pack may be rewritten then.
    """
    counts: dict[int, int] = {}
    lost = b""
    dead = dead_bytes = 0
    counted, found = replace(objects.statistics), Statistics()
    for seen, (digest, _, location) in enumerate(objects.iterate(), start=1):
        size = HEADER_BYTES + location.stored_length
        found.count(location, 1)
        if objects.is_protected(digest) or live(digest):
            counts[location.pack] = counts.get(location.pack, 0) + size
            lost = digest if location == UNKNOWN else lost
        else:
            objects.condemn(digest, location)
            dead += 1
            dead_bytes += size
        if seen % STEP_ENTRIES == 0:
            yield
    objects.statistics.correct(counted, found)
    if lost:
        raise Corruption("object", "its entry in the index", lost)
    return Gone(dead, dead_bytes), counts


def _rewrite(objects: Objects, packs: list[int]) -> Generator[None, None, None]:
    """Move the live objects of `packs` away and give the packs up, but for those with damage.

    Those without a live object go first, and each as soon as it can: a full disk may stop this anywhere.
    """
    living: dict[int, list[Entry]] = {pack: [] for pack in packs}
    # The condemned come along, or a long run of them would make a long step.
    for seen, (digest, _, location) in enumerate(objects.iterate(condemned=True), start=1):
        entries = living.get(location.pack)
        if entries is not None and objects.lies_at(digest, location):
            entries.append((location.offset, digest, location))
        if seen % STEP_ENTRIES == 0:
            yield
    for pack in [pack for pack in packs if not living[pack]]:
        objects.give_up(pack)
    for pack in [pack for pack in packs if living[pack]]:
        yield from _empty(objects, pack, living.pop(pack))


def _empty(objects: Objects, pack: int, entries: list[Entry]) -> Generator[None, None, None]:
    """Move what lives in a pack elsewhere, and give the pack up unless something in it is damaged."""
    damaged = False
    moved = 0
    for _, digest, location in sorted(entries):
        try:
            objects.move(digest, location)
        except Corruption:
            damaged = True
        moved += location.stored_length
        if moved >= STEP_BYTES:
            moved = 0
            yield
    if not damaged:
        objects.give_up(pack)
