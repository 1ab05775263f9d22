"""The journal: every acknowledged change and every written byte, in the order of acknowledgement.

A position is `segment << 32 | offset`. A record lies whole in one segment and its check covers its
position, so bytes of an earlier life of a file are never taken for a record. Every segment begins with a
link that names where the one before it ended: a segment that lost its tail in a power cut is noticed even
when it ends between two records, so that what `replay` finds is always a prefix of history.

Must never return bytes that do not check, and must never append before `replay` has found the end.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from heliosfs.base.errors import Corruption
from heliosfs.store.cache import ByteCache
from heliosfs.store.segments import Mark, Segments

SEGMENT_BYTES = 16 << 20
"""A segment is dropped as a whole, once nothing in it is needed: on a full disk the reserve has room for what is left
of one. Yet it holds many requests of 1 MiB."""

LEAVING_SHARE = 8
"""A segment is left early when this part of it is full: for less a new file does not pay."""

AHEAD_BYTES = 1 << 20
"""How far beyond its last record a segment is made: many syncs, of which only one finds the file grown."""

CACHE_BYTES = 32 << 20
"""Recent data kept in memory: reading back what was just written costs no system call."""

RECORD_HEADER = struct.Struct("<IIIQ")
"""Header length, data length, kind, check."""

CHECKED = struct.Struct("<QIIIQ")
"""What the check is over, before the header: position, the three numbers of above, XXH3-64 of the data."""

FIRST_BYTES = 12 << 10
"""Read at once of a record whose length is not known yet: whole, for most."""

WINDOW_BYTES = 1 << 20
"""Read at once in a replay: what the processor's cache holds."""

KIND_LINK = 0
"""The first record of a segment; its header is LINK: segment and offset where the one before it ended."""

LINK = struct.Struct("<QQ")

OFFSET_BITS = 32
OFFSET_MASK = (1 << OFFSET_BITS) - 1

_HEADER_BYTES = RECORD_HEADER.size
_LINK_BYTES = _HEADER_BYTES + LINK.size
_pack_header = RECORD_HEADER.pack
_pack_checked = CHECKED.pack


class Record(NamedTuple):
    """One record as replay finds it; its data is read on demand by position."""

    kind: int
    position: int
    header: bytes
    data_length: int


class Journal:
    """The segments of one directory, replayed once and then appended to."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES, read_only: bool = False) -> None:
        self._segments = Segments(directory, read_only=read_only, ahead=min(AHEAD_BYTES, segment_bytes))
        self._segment_bytes = segment_bytes
        self._read_only = read_only
        self._cache: ByteCache[int, bytes | memoryview] = ByteCache(CACHE_BYTES)
        self._limit = 0
        """Where the present segment is full; 0 while there is none to append to."""
        self._replayed = False
        self._base = 0
        """The position of the present segment's first byte."""
        self._head = 0
        self.lost = 0
        """Bytes that replay found beyond the end of history; they are in files named lost-* now."""

    def append(self, kind: int, header: bytes, data: bytes | memoryview = b"") -> int:
        """Append one record (kind 1 to 255) and return its position. On OSError nothing has changed."""
        header_length = len(header)
        data_length = len(data)
        size = _HEADER_BYTES + header_length + data_length
        segments = self._segments
        if segments.offset + size > self._limit:
            self._begin_segment()
        position = self._base + segments.offset
        check = xxh3_64_intdigest(
            _pack_checked(position, header_length, data_length, kind, xxh3_64_intdigest(data)) + header
        )
        front = _pack_header(header_length, data_length, kind, check) + header
        if data_length:
            segments.append((front, data), size)
            self._cache.put(position, data if type(data) is bytes else bytes(data))
        else:
            segments.append((front,), size)
        self._head = position + size
        return position

    def append_freeing(self, kind: int, header: bytes) -> int:
        """As `append`, for a record that leads to free space: it may use the room that others leave alone."""
        segments = self._segments
        floor, segments.floor = segments.floor, 0
        try:
            return self.append(kind, header)
        finally:
            segments.floor = floor

    def leave_free(self, size: int) -> None:
        """From now on `append` leaves this much of the disk alone; 0: all of it may be used."""
        self._segments.floor = size

    def leave_segment(self) -> None:
        """Let the next record begin a segment, unless the present one has little in it or there is no room: what lies
        before can go as a whole then."""
        if self._segments.offset >= self._segment_bytes // LEAVING_SHARE:
            with suppress(OSError):
                self._begin_segment()

    def _begin_segment(self) -> None:
        """Start a new segment, unless the present one is still empty: a huge record has one to itself."""
        assert self._replayed and not self._read_only, "the journal is appended to only after its replay"
        segments = self._segments
        if segments.number and segments.offset == _LINK_BYTES:
            return
        number = segments.number + 1
        segments.create(number, link_record(number, segments.mark()))
        self._limit = self._segment_bytes
        self._base = number << OFFSET_BITS
        self._head = self._base + segments.offset

    def read(self, position: int) -> memoryview:
        """The data of the record at `position`, verified. Corruption when it is damaged or missing."""
        data = self._cache.get(position)
        if data is None:
            data = self._load(position)
            self._cache.put(position, data)
        return memoryview(data)

    def _load(self, position: int) -> bytes | memoryview:
        number, offset = position >> OFFSET_BITS, position & OFFSET_MASK
        try:
            found = self._segments.read(number, offset, FIRST_BYTES)
            length = record_length(found)
            if length and offset + length <= self._segments.size(number):
                if length > len(found):
                    found += self._segments.read(number, offset + len(found), length - len(found))
                rest = memoryview(found)[_HEADER_BYTES:length]
                record = parse(found[:_HEADER_BYTES], rest, position)
                if record is not None:
                    # Small ones are kept without what follows them.
                    data = rest[len(record.header) :]
                    return data if length > FIRST_BYTES else bytes(data)
        except FileNotFoundError:
            pass
        except OSError as failure:
            if failure.errno != errno.EIO:
                raise
        raise Corruption("journal record", self._where(position))

    def _where(self, position: int) -> str:
        return f"{self._segments.path(position >> OFFSET_BITS)}, offset {position & OFFSET_MASK}"

    def replay(self, start: int = 0) -> Iterator[Record]:
        """The records from `start` (0: the oldest) to the end of history; what lies beyond is set aside.

        Appending is allowed once the iterator is exhausted. Corruption when the journal ends before
        `start`: what was known to be on disk is missing.
        """
        assert not self._replayed, "a journal is replayed once"
        segments = self._segments
        number, offset = start >> OFFSET_BITS, start & OFFSET_MASK
        numbers = segments.numbers()
        if start == 0:
            number = numbers[0] if numbers else 0
        elif offset > segments.size(number) or number not in numbers:
            raise Corruption("journal", f"{self._where(start)}: it ends before that")
        while number:
            for record, end in self._records(number, offset):
                offset = end
                if record.kind != KIND_LINK:
                    yield record
            segments.leave_out_zeros(number, offset)
            if offset != segments.size(number) or not self._links(number + 1, Mark(number, offset)):
                break
            number, offset = number + 1, 0
        self._finish(number, offset, start >> OFFSET_BITS)

    def _records(self, number: int, offset: int) -> Iterator[tuple[Record, int]]:
        """The whole records of a segment from `offset` on, each with the offset of its end."""
        size = self._segments.size(number)
        window, at = memoryview(b""), 0
        while True:
            if len(window) - at < _HEADER_BYTES:
                window, at = self._window(number, offset, _HEADER_BYTES), 0
            middle = at + _HEADER_BYTES
            length = record_length(window[at:middle])
            if not length or offset + length > size:
                return
            if len(window) - at < length:
                window, at, middle = self._window(number, offset, length), 0, _HEADER_BYTES
            position = (number << OFFSET_BITS) + offset
            record = parse(window[at:middle], window[middle : at + length], position)
            if record is None:
                return
            at += length
            offset += length
            yield record, offset

    def _window(self, number: int, offset: int, length: int) -> memoryview:
        """At least `length` bytes of a segment, if there are so many, and many small records at once."""
        return memoryview(self._segments.read(number, offset, max(length, WINDOW_BYTES)))

    def _links(self, number: int, end: Mark) -> bool:
        """Whether segment `number` is there and goes on from `end`."""
        link = link_record(number, end)
        return self._segments.size(number) >= len(link) and self._segments.read(number, 0, len(link)) == link

    def _finish(self, number: int, offset: int, first: int) -> None:
        """Set aside what lies beyond the end of history, newest first, and get ready to append.

        The segments from `first` on may still be dirty pages of a killed process: the next sync covers them.
        """
        segments = self._segments
        numbers = segments.numbers()
        self._head = (number << OFFSET_BITS) + offset
        self.lost = sum(segments.size(later) for later in numbers if later >= number) - offset
        self._replayed = True
        if self._read_only:
            return
        if offset < _LINK_BYTES:
            number = 0
        for later in reversed(numbers):
            if later > number:
                segments.set_aside(later)
        if number:
            if segments.size(number) > offset:
                segments.set_aside(number, offset)
            segments.resume(number, dirty=[earlier for earlier in numbers if first <= earlier < number])
            self._limit = self._segment_bytes
        self._base = number << OFFSET_BITS
        self._head = self._base + segments.offset

    @property
    def head(self) -> int:
        """Where the next record goes, unless it has to begin a segment."""
        return self._head

    def size_since(self, position: int) -> int:
        """The bytes from a position to the head, in the segments that there still are."""
        first, offset = position >> OFFSET_BITS, position & OFFSET_MASK
        segments = self._segments
        later = sum(segments.size(number) for number in segments.numbers() if number > first)
        return later + max(segments.size(first) - offset, 0)

    def sync(self) -> None:
        """Bring all that was appended before the call to disk. Any thread; OSError when that failed."""
        self._segments.sync()

    def segments(self) -> list[int]:
        """The segments there are, oldest first."""
        return self._segments.numbers()

    def unlink(self, segment: int) -> None:
        """Any thread. What takes long of `drop`, which has to follow."""
        self._segments.unlink(segment)

    def drop(self, segment: int) -> None:
        """Delete a segment to which nothing points any more; never the one being written."""
        self._segments.remove(segment)

    def size(self) -> int:
        """The bytes in all segments."""
        return self._segments.total()

    def close(self) -> None:
        """Close the files; nothing is synced."""
        self._limit = 0
        self._segments.close()


def record_length(front: bytes | memoryview) -> int:
    """The length of the record that begins with `front`, as it says itself; 0 when that is too short."""
    if len(front) < _HEADER_BYTES:
        return 0
    header_length, data_length, _, _ = RECORD_HEADER.unpack_from(front)
    return _HEADER_BYTES + int(header_length) + int(data_length)


def parse(front: bytes | memoryview, rest: memoryview, position: int) -> Record | None:
    """The record at `position`, from the fixed part and the rest of it; None when it does not check."""
    header_length, data_length, kind, check = RECORD_HEADER.unpack(front)
    if len(rest) != header_length + data_length:
        return None
    header = bytes(rest[:header_length])
    data_check = xxh3_64_intdigest(rest[header_length:])
    checked = _pack_checked(position, header_length, data_length, kind, data_check)
    if xxh3_64_intdigest(checked + header) != check:
        return None
    return Record(kind, position, header, data_length)


def link_record(number: int, end: Mark) -> bytes:
    """The first record of segment `number`, when the one before it ended at `end`."""
    header = LINK.pack(*end)
    empty = xxh3_64_intdigest(b"")
    check = xxh3_64_intdigest(_pack_checked(number << OFFSET_BITS, len(header), 0, KIND_LINK, empty) + header)
    return _pack_header(len(header), 0, KIND_LINK, check) + header
