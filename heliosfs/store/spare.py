"""The spare: a second copy of what only the database knows, in one file, for the day on which that cannot be read.

It has all families but the index of objects, which the packs themselves can give. First come all pairs as of some
flush, then the changes of every flush since: so a flush writes what it changed, and all of it anew when that has become
the longer part.

Invariants:
  1. Changes are appended once the database has them for good, and before anything goes that only the state before them
     needs. So with the journal the spare leads to the same state as the database.
  2. A spare that cannot be written is removed: none is better than one that lags behind. The next flush makes one.
  3. Nothing here ever makes a flush fail.

See `rebuild` for the way back. `follow` may run in any thread, of which one at a time.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from xxhash import xxh3_64_intdigest

from heliosfs.store.database import CHANGE, INDEX, PUT, Database, Family
from heliosfs.store.segments import free_bytes, sync_directory

MAGIC = b"HSP1"

FRAME = struct.Struct("<4sIQQ")
"""Magic, length, sequence number of the database after it (0: more belongs to it), check."""

CHECKED = struct.Struct("<QIQQ")
"""What the check is over: offset in the file, length, sequence number, XXH3-64 of the changes."""

FRAME_BYTES = 1 << 20
"""Of a frame of the first part, about."""

ANEW_BYTES_MIN = 4 << 20
"""Changes that are kept however small the first part is."""

FREE_BYTES_MIN = 16 << 20
"""Free space without which there is no spare: a full disk has better uses for it."""

YIELD_CHANGES = 32
"""Between two chances for requests to run: about 0.1 ms."""

_log = logging.getLogger(__name__)


class Spare:
    """The spare of an open store."""

    def __init__(self, path: Path, database: Database) -> None:
        self.path = path
        self._new = path.with_name(path.name + ".new")
        self._database = database
        self._sequence = -1
        """The database's number after the last change that is here; -1 when there is no whole spare."""
        self._size = 0
        self._full_size = 0
        """How long the first part is."""
        self._take_up()

    def _take_up(self) -> None:
        """Go on with what an earlier process left, if it is as new as the database and nothing more."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return
        end = 0
        for sequence, payload in frames(content):
            end += FRAME.size + len(payload)
            self._full_size = self._full_size or (end if sequence else 0)
            self._sequence = sequence or self._sequence
        self._size = end
        if end != len(content) or self._sequence != self._database.sequence():
            self._sequence = -1

    def follow(self, before: int, changes: list[bytes], *, tight: bool) -> None:
        """Take in what a flush has changed, which found the database at the number `before`; when `tight`, on a full
        disk, there is none."""
        try:
            if tight or free_bytes(self.path.parent) < FREE_BYTES_MIN:
                self.drop()
            elif before != self._sequence or self._size > max(ANEW_BYTES_MIN, 2 * self._full_size):
                self._write_anew()
            else:
                self._append(b"".join(changes))
        except Exception as failure:
            _log.warning("%s could not be written, and is removed: %s", self.path, failure)
            self.drop()

    def drop(self) -> None:
        """Do without, until the next flush."""
        self._sequence = -1
        for path in (self.path, self._new):
            try:
                path.unlink(missing_ok=True)
            except OSError as failure:
                _log.warning("%s cannot be removed: %s", path, failure)

    def _append(self, payload: bytes) -> None:
        sequence = self._database.sequence()
        content = frame(self._size, sequence, payload)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            write_all(descriptor, content, self._size)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._size += len(content)
        self._sequence = sequence

    def _write_anew(self) -> None:
        sequence = self._database.sequence()
        size = 0
        descriptor = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            for payload in self._payloads():
                content = frame(size, 0, payload)
                write_all(descriptor, content, size)
                size += len(content)
            last = frame(size, sequence, b"")
            write_all(descriptor, last, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(self._new, self.path)
        sync_directory(self.path.parent)
        self._size = self._full_size = size + len(last)
        self._sequence = sequence

    def _payloads(self) -> Iterator[bytes]:
        """All of the database but the index, in pieces."""
        changes: list[bytes] = []
        size = 0
        for family in Family:
            if family == INDEX:
                continue
            for number, (key, value) in enumerate(self._database.scan(family), start=1):
                changes.append(CHANGE.pack(PUT, family, len(key), len(value)) + key + value)
                size += len(changes[-1])
                if not number % YIELD_CHANGES:
                    time.sleep(0)
                if size >= FRAME_BYTES:
                    yield b"".join(changes)
                    changes, size = [], 0
        yield b"".join(changes)


def decode(payload: bytes) -> Iterator[tuple[int, Family, bytes, bytes]]:
    """The changes in a row: what is done, family, key, value."""
    at = 0
    while at < len(payload):
        kind, family, key_length, value_length = CHANGE.unpack_from(payload, at)
        middle = at + CHANGE.size + key_length
        yield kind, Family(family), payload[at + CHANGE.size : middle], payload[middle : middle + value_length]
        at = middle + value_length


def frame(offset: int, sequence: int, payload: bytes) -> bytes:
    """A frame that begins at `offset` of the file."""
    check = xxh3_64_intdigest(CHECKED.pack(offset, len(payload), sequence, xxh3_64_intdigest(payload)))
    return FRAME.pack(MAGIC, len(payload), sequence, check) + payload


def frames(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The sequence numbers and payloads of the whole frames, up to the first that does not check."""
    at = 0
    while at + FRAME.size <= len(content):
        magic, length, sequence, check = FRAME.unpack_from(content, at)
        payload = content[at + FRAME.size : at + FRAME.size + length]
        if magic != MAGIC or len(payload) != length:
            return
        if xxh3_64_intdigest(CHECKED.pack(at, length, sequence, xxh3_64_intdigest(payload))) != check:
            return
        yield sequence, payload
        at += FRAME.size + length


def write_all(descriptor: int, content: bytes, offset: int) -> None:
    """Write all of it, whatever the kernel takes at once."""
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
