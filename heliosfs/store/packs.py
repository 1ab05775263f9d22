"""Packs: append-only files that hold the bodies of objects.

A record is a header, which names the object and says how its body is coded, and the body. Its check covers
both, so a pack can be read without the index: that is how the collector and another store read it.

Must never return bytes that do not check; whether the bytes are the right ones for a digest is for the
object store to verify.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from heliosfs.base.errors import Corruption
from heliosfs.store.segments import Segments

PACK_BYTES = 16 << 20
"""Large enough that few files hold much, small enough to travel as one, and to be rewritten on a full disk: what is
left of one fits into the store's reserve."""

MAGIC = b"HPK1"

RECORD_HEADER = struct.Struct("<4sBBHII32sQ")
"""Magic, kind, codec, zero, raw length, stored length, digest, check."""

CHECKED = struct.Struct("<4sBBHII32sQ")
"""What the check is over: the header with XXH3-64 of the body in the place of the check."""

HEADER_BYTES = RECORD_HEADER.size


class Location(NamedTuple):
    """Where an object lies and how: what the index holds of it."""

    pack: int
    offset: int
    stored_length: int
    raw_length: int
    kind: int
    codec: int

    @property
    def end(self) -> int:
        """The offset after the record."""
        return self.offset + HEADER_BYTES + self.stored_length


class Packs:
    """The pack files of one directory."""

    def __init__(self, directory: Path, *, pack_bytes: int = PACK_BYTES, read_only: bool = False) -> None:
        self._segments = Segments(directory, read_only=read_only)
        self._pack_bytes = pack_bytes
        self._limit = 0
        """Where the present pack is full; 0 while there is none to write to."""
        self.sync = self._segments.sync
        self.mark = self._segments.mark
        self.size = self._segments.size
        self.numbers = self._segments.numbers
        self.total = self._segments.total
        self.close = self._segments.close

    @property
    def current(self) -> int:
        """The pack being written, 0 before the first append."""
        return self._segments.number

    def recover(self, lengths: dict[int, int]) -> int:
        """Forget what lies beyond the lengths that the index knows; returns the bytes forgotten.

        The last pack goes on being written, unless it lacks bytes: then a new one begins.
        """
        segments = self._segments
        forgotten = 0
        for number in segments.numbers():
            size, known = segments.size(number), lengths.get(number, 0)
            if not known:
                segments.remove(number)
            elif size > known:
                segments.truncate(number, known)
            forgotten += max(size - known, 0)
        last = max(lengths, default=0)
        if last and segments.size(last) == lengths[last]:
            segments.resume(last)
            self._limit = self._pack_bytes
        else:
            segments.start_after(last)
        return forgotten

    def append(self, kind: int, codec: int, raw_length: int, digest: bytes, body: bytes | memoryview) -> Location:
        """Append an object and return where it lies. On OSError nothing has changed."""
        stored_length = len(body)
        size = HEADER_BYTES + stored_length
        segments = self._segments
        if segments.offset + size > self._limit:
            segments.create(segments.number + 1)
            self._limit = self._pack_bytes
        body_check = xxh3_64_intdigest(body)
        named = (MAGIC, kind, codec, 0, raw_length, stored_length, digest)
        header = RECORD_HEADER.pack(*named, xxh3_64_intdigest(CHECKED.pack(*named, body_check)))
        offset = segments.append((header, body), size)
        return Location(segments.number, offset, stored_length, raw_length, kind, codec)

    def read(self, location: Location, digest: bytes) -> bytes:
        """The body at `location`, which must be that of `digest`. Corruption when it does not check."""
        content = self._content(location)
        if not is_record(content, location, digest):
            raise Corruption("object", self.where(location), digest)
        return content[HEADER_BYTES:]

    def checks(self, location: Location, digest: bytes) -> bool:
        """Whether `read` would return the body."""
        return is_record(self._content(location), location, digest)

    def _content(self, location: Location) -> bytes:
        try:
            return self._segments.read(location.pack, location.offset, HEADER_BYTES + location.stored_length)
        except FileNotFoundError:
            return b""

    def records(self, pack: int, wanted: Container[bytes]) -> Iterator[tuple[Location, bytes]]:
        """What looks like a record of a wanted object, found without the index and past what is damaged."""
        content = self._segments.read(pack, 0, self.size(pack))
        at = 0
        while (at := content.find(MAGIC, at)) >= 0 and at + HEADER_BYTES <= len(content):
            _, kind, codec, _, raw_length, stored_length, digest, _ = RECORD_HEADER.unpack_from(content, at)
            location = Location(pack, at, stored_length, raw_length, kind, codec)
            if digest in wanted:
                yield location, digest
            following = content[location.end : location.end + len(MAGIC)]
            at = location.end if following in (MAGIC, b"") else at + 1

    def where(self, location: Location) -> str:
        """A location in words."""
        return f"{self._segments.path(location.pack)}, offset {location.offset}"

    def holds(self, location: Location) -> bool:
        """Whether the file is as long as the location says: a cheap part of what `read` verifies."""
        return location.end <= self._segments.size(location.pack)

    def unlink(self, pack: int) -> None:
        """Any thread. What takes long of `remove`, which has to follow."""
        self._segments.unlink(pack)

    def remove(self, pack: int) -> None:
        """Delete a pack, never the one being written."""
        self._segments.remove(pack)

    def leave_free(self, size: int) -> None:
        """From now on `append` leaves this much of the disk alone; 0: all of it may be used."""
        self._segments.floor = size

    def leave(self) -> None:
        """Begin a new pack, so that the present one may be collected."""
        self._segments.create(self._segments.number + 1)
        self._limit = self._pack_bytes


def is_record(content: bytes, location: Location, digest: bytes) -> bool:
    """Whether `content` is a whole record of `digest` and says the same of it as `location`."""
    if len(content) != HEADER_BYTES + location.stored_length:
        return False
    body_check = xxh3_64_intdigest(memoryview(content)[HEADER_BYTES:])
    expected = (
        MAGIC,
        location.kind,
        location.codec,
        0,
        location.raw_length,
        location.stored_length,
        digest,
    )
    check = xxh3_64_intdigest(CHECKED.pack(*expected, body_check))
    return RECORD_HEADER.unpack_from(content) == (*expected, check)
