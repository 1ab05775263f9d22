"""A node: one immutable page of a Merkle tree.

A leaf (level 0) holds entries of the map; a node of a higher level holds, for each child, the child's
last key and the child's digest, so every level is a sorted map by itself.

Stored form: a msgpack array of three, [level, [keys], [values]], each in its shortest encoding, so equal
nodes have equal bytes and with them equal digests. Keys are not prefix-compressed: LZ4 in the store takes
most of what that would save, and a plain list is what bisect works on.

Invariants, which `decode` verifies and `encode` relies on:
1. there is at least one key, and as many values as keys;
2. keys ascend strictly;
3. above level 0 each value is a digest.

Bytes that break them are `Corruption`, whatever they are; no other exception leaves `decode`.
"""

from collections.abc import Sequence
from itertools import islice
from operator import lt
from typing import Final

import msgspec

from heliosfs.base.digests import DIGEST_BYTES
from heliosfs.base.errors import Corruption

NODE: Final = 2
"""The store's number for this kind of object. On disk: never changes."""

LEVEL_MAX: Final = 63
"""Each level has at most half the nodes of the one below (see the splitter), so no real tree is higher."""

_OBJECT_BYTES: Final = 48
"""What a bytes object costs in memory beside its bytes, with the pointer to it."""
_NODE_BYTES: Final = 200
"""The same for a node and its two tuples."""


class Node(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Sorted keys and their values. Tuples, so that nobody changes them and the collector lets them be."""

    level: int
    keys: tuple[bytes, ...]
    values: tuple[bytes, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Node).decode


def encode(node: Node) -> bytes:
    """The stored bytes of a node, the same for equal nodes."""
    return _encode(node)


def decode(data: bytes, digest: bytes) -> Node:
    """The node that `data`, stored under `digest`, encodes.

    Raises: Corruption.
    """
    try:
        node = _decode(data)
    except (ValueError, RecursionError, MemoryError) as error:
        raise Corruption("node", f"its encoding ({error})", digest) from error
    fault = _fault(node.level, node.keys, node.values)
    if fault:
        raise Corruption("node", fault, digest)
    return node


def _fault(level: int, keys: Sequence[bytes], values: Sequence[bytes]) -> str:
    """Which invariant does not hold, or nothing."""
    if not 0 <= level <= LEVEL_MAX:
        return "its level"
    if not keys or len(keys) != len(values):
        return "its number of entries"
    if not all(map(lt, keys, islice(keys, 1, None))):
        return "the order of its keys"
    if level and set(map(len, values)) != {DIGEST_BYTES}:
        return "its children's digests"
    return ""


def memory_bytes(node: Node, stored_bytes: int) -> int:
    """About what a decoded node costs in memory, given the length of its stored form."""
    return _NODE_BYTES + stored_bytes + 2 * _OBJECT_BYTES * len(node.keys)
