"""Names of objects: the BLAKE3 digest of their bytes.

An object's name depends on its bytes alone, not on its kind, its codec or where it lies, so the
name of a file's only chunk is what `b3sum` prints for the file.
"""

from blake3 import blake3

DIGEST_BYTES = 32

hasher = blake3
"""Makes a digest of what comes in pieces: `update`, then `digest` or `hexdigest`."""


def digest(data: bytes | memoryview) -> bytes:
    """The name of `data`: 32 bytes."""
    return blake3(data).digest()
