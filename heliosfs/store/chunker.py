"""Content-defined boundaries: where the bytes of a file are cut into chunks.

The parameters are part of the format: they never change what can be read, but bytes that are cut elsewhere
are not recognised as stored already. Golden boundaries in the tests hold them fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pyfastcdc import FastCDC

ALGORITHM = "fastcdc-2020"
MINIMUM_BYTES = 8 << 10
AVERAGE_BYTES = 32 << 10
"""The mean of chunks of large files is average plus minimum."""
MAXIMUM_BYTES = 128 << 10
NORMALIZATION: Final = 1
SEED = 0

PARAMETERS: dict[str, str | int] = {
    "algorithm": ALGORITHM,
    "minimum": MINIMUM_BYTES,
    "average": AVERAGE_BYTES,
    "maximum": MAXIMUM_BYTES,
    "normalization": NORMALIZATION,
    "seed": SEED,
}
"""As the store's format file records them."""


def chunks(data: bytes | memoryview) -> Iterator[memoryview]:
    """The chunks of `data`, in order: views into it that together are all of it. None for no data."""
    if len(data) <= MINIMUM_BYTES:
        if len(data):
            yield memoryview(data)
        return
    for chunk in cutter().cut_buf(data):
        yield chunk.data


def cutter() -> FastCDC:
    """A new cutter: one must not serve two runs at once, and another costs little."""
    return FastCDC(
        AVERAGE_BYTES,
        min_size=MINIMUM_BYTES,
        max_size=MAXIMUM_BYTES,
        normalized_chunking=NORMALIZATION,
        seed=SEED,
    )
