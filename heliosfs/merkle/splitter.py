"""Where a node ends.

The rule looks at the entries since the last boundary and at nothing else, so the boundaries of a level
are a function of the map alone: whatever the order of edits, equal maps are cut equally, and after an
edit the cuts are the old ones again as soon as one of them coincides with an old one.

After an entry of e bytes that brings the node to s bytes there is a boundary
- never while s <= NODE_BYTES_MIN;
- always when s >= NODE_BYTES_MAX;
- otherwise when the hash of the key, as a fraction, is below e * (s - NODE_BYTES_MIN) / SPREAD_BYTES**2.

The chance of ending grows with the size of the node, so sizes cluster around 4 KiB (a Rayleigh
distribution), long runs without a boundary hardly exist, and the forced cut, which an edit can shift, is
left to keys chosen with malice. Only the key is hashed: a new value of the same length moves nothing.
The level is the seed, because the last keys of leaves would all be boundaries one level up otherwise.
Above the leaves a node has at least two entries (but the last of a level may have one), so every level
has at most half the nodes of the one below, however long the keys.

The constants and the hash are part of the stored format: with others, equal maps get unequal roots.
"""

from collections.abc import Sequence
from typing import Final

from xxhash import xxh3_64_intdigest

NODE_BYTES_MIN: Final = 1024
NODE_BYTES_MAX: Final = 16384
SPREAD_BYTES: Final = 2450
"""The mean node is NODE_BYTES_MIN + 1.25 * SPREAD_BYTES: 4 KiB."""
ENTRY_BYTES: Final = 4
"""Counted for each entry beside its key and value, so that empty ones have a size too."""

_THRESHOLD: Final = (1 << 64) // SPREAD_BYTES**2


def boundaries(level: int, keys: Sequence[bytes], values: Sequence[bytes], size: int) -> tuple[list[int], int]:
    """Where nodes end among entries that follow `size` bytes of a node begun before (0: none).

    Returns the positions after which a node ends, as slice ends, and the size of what is left over.
    """
    ends = []
    smallest, largest, threshold = NODE_BYTES_MIN, NODE_BYTES_MAX, _THRESHOLD
    fewest = 2 if level else 1
    start = -1 if size else 0
    for position, (key, value) in enumerate(zip(keys, values, strict=True), 1):
        entry = len(key) + len(value) + ENTRY_BYTES
        size += entry
        if (
            size > smallest
            and (xxh3_64_intdigest(key, level) < entry * (size - smallest) * threshold or size >= largest)
            and position - start >= fewest
        ):
            ends.append(position)
            start = position
            size = 0
    return ends, size
