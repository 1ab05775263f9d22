"""The envelope of an object's body: how its bytes are coded in a pack.

LZ4 costs little and finds out by itself, at gigabytes a second, that bytes do not compress; a body that
saves too little stays raw, since reading it back is then free. The codec is a byte of each record, so
others may follow.
"""

from __future__ import annotations

import lz4.block

RAW = 0
LZ4 = 1

SAVING_SHIFT = 4
"""A coded body must save at least 1/16, or decoding costs more than it is worth."""


def encode(data: bytes | memoryview) -> tuple[int, bytes | memoryview]:
    """The codec and the body to store."""
    body: bytes = lz4.block.compress(data, store_size=False)
    length = len(data)
    if len(body) > length - (length >> SAVING_SHIFT) or length == 0:
        return RAW, data
    return LZ4, body


def decode(codec: int, body: bytes, raw_length: int) -> bytes | None:
    """The bytes of a body, or None when it is not one of `raw_length` bytes."""
    if codec == RAW:
        return body if len(body) == raw_length else None
    if codec != LZ4:
        return None
    try:
        data: bytes = lz4.block.decompress(body, uncompressed_size=raw_length)
    except (lz4.block.LZ4BlockError, ValueError):
        return None
    return data if len(data) == raw_length else None
