"""What the database holds of the objects: the codecs of index entries, pack lengths and counters."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from heliosfs.base.errors import Corruption
from heliosfs.store.packs import HEADER_BYTES, Location

ENTRY = struct.Struct("<IIIIBBB")
"""Family INDEX, by digest: pack, offset, stored length, raw length, kind, codec, flags."""

FLAG_SUSPECT = 1
"""A read of the object has failed: the next put of the same content writes it again."""

PACK_PREFIX = b"pack/"
PACK_KEY = struct.Struct(">5sI")
PACK_LENGTH = struct.Struct("<Q")
"""Family SETTINGS, for each pack: the length up to which the index names its records."""

UNKNOWN = Location(0, 0, 0, 0, 0, 0)
"""Where an object lies whose entry cannot be read: in no pack, so that nothing takes it for a good one."""

STATISTICS_KEY = b"objects"
STATISTICS = struct.Struct("<QQQQQ")
"""Family SETTINGS: the counters that outlive the process."""


@dataclass(slots=True)
class Statistics:
    """Counters of the object store. The first five outlive the process, as of the last flush."""

    objects: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0
    dedup_hits: int = 0
    dedup_bytes: int = 0
    cache_hits: int = 0
    cache_misses: int = 0

    def count(self, location: Location, sign: int) -> None:
        """Add (sign 1) or take away (sign -1) one object."""
        self.objects += sign
        self.raw_bytes += sign * location.raw_length
        self.stored_bytes += sign * (HEADER_BYTES + location.stored_length)

    def correct(self, counted: Statistics, found: Statistics) -> None:
        """Settle for what there was where it had been counted otherwise. A kill leaves counters that are a little off:
        they lack what was condemned, or moved, and was still in the index."""
        self.objects += found.objects - counted.objects
        self.raw_bytes += found.raw_bytes - counted.raw_bytes
        self.stored_bytes += found.stored_bytes - counted.stored_bytes

    def figures(self) -> dict[str, int | float]:
        """Figures for people and programs, by name: `logical_bytes` is all that was put, as often as it was."""
        logical = self.raw_bytes + self.dedup_bytes
        return {
            "objects": self.objects,
            "logical_bytes": logical,
            "unique_bytes": self.raw_bytes,
            "stored_bytes": self.stored_bytes,
            "deduplication_ratio": logical / self.raw_bytes if self.raw_bytes > 0 else 1.0,
            "compression_ratio": self.raw_bytes / self.stored_bytes if self.stored_bytes > 0 else 1.0,
            "cache_hits": self.cache_hits,
            "cache_misses": self.cache_misses,
        }

    def encode(self) -> bytes:
        """The part that is stored."""
        counters = (self.objects, self.raw_bytes, self.stored_bytes, self.dedup_hits, self.dedup_bytes)
        return STATISTICS.pack(*(max(counter, 0) for counter in counters))


def encode_entry(location: Location, suspect: bool = False) -> bytes:
    """An index entry."""
    return ENTRY.pack(*location, FLAG_SUSPECT if suspect else 0)


def decode_entry(value: bytes) -> tuple[Location, bool]:
    """The location in an index entry, and whether the object is suspect: one with a damaged entry always is."""
    if len(value) != ENTRY.size:
        return UNKNOWN, True
    pack, offset, stored_length, raw_length, kind, codec, flags = ENTRY.unpack(value)
    return Location(pack, offset, stored_length, raw_length, kind, codec), bool(flags & FLAG_SUSPECT)


def pack_key(pack: int) -> bytes:
    """The key of a pack's length."""
    return PACK_KEY.pack(PACK_PREFIX, pack)


def pack_of(key: bytes) -> int:
    """The pack in such a key. Corruption when it has none."""
    if len(key) != PACK_KEY.size:
        raise Corruption("setting", f"the key {key!r}")
    return int(PACK_KEY.unpack(key)[1])


def encode_length(length: int) -> bytes:
    """The value of a pack's length."""
    return PACK_LENGTH.pack(length)


def decode_length(value: bytes) -> int:
    """The pack's length in its value. Corruption when it has none: a pack must not be cut or removed on a guess."""
    if len(value) != PACK_LENGTH.size:
        raise Corruption("setting", f"the length of a pack, {value!r}")
    return int(PACK_LENGTH.unpack(value)[0])


def decode_statistics(value: bytes | None) -> Statistics:
    """The stored counters; zeros when nothing was stored yet, or they cannot be read: they are for people only."""
    return Statistics(*STATISTICS.unpack(value)) if value and len(value) == STATISTICS.size else Statistics()
