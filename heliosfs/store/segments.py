"""Numbered append-only files of one directory: what the journal and the packs are made of.

One file, the last, is being written; the others only shrink to nothing by `remove`. An append that fails
has changed nothing. `sync`, `read` and `unlink` may be called from any thread, everything else from the owner's.

Must never write into bytes that lie before the end of a file, and must never report a sync that failed
as done: after a failed fdatasync the kernel may have dropped the pages, so every later sync fails too.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

NUMBER_DIGITS = 10
"""Digits of a file's name: names sort as numbers do."""

READ_DESCRIPTORS_MAX = 64
"""Files kept open for reading: far below the usual limit of 1024 descriptors of a process."""

OFTEN_BYTES = 16 << 10
"""Less than this between two syncs, on average, and what is made ahead is written."""

_ZEROS = bytes(256 << 10)
"""What is written then: a copy of some 50 us, for the next sixteen syncs at least."""

_ZERO_BYTES = 1 << 20
"""How much is looked through for zeros at once."""

_READ_BYTES_MAX = 1 << 30
"""One pread returns at most 2 GiB less a page."""

Buffer = bytes | memoryview


class Mark(NamedTuple):
    """A place in the sequence of files; marks compare in the order of writing."""

    number: int
    offset: int


class _Reader:
    """A descriptor that closes with its last user: a file may be removed while another thread reads it."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class Segments:
    """The files `DIRECTORY/%010d`."""

    def __init__(self, directory: Path, *, read_only: bool = False, ahead: int = 0) -> None:
        """With `ahead`, the file being written is made that many bytes longer than it has to be, now and then: a sync
        of a file that has not grown takes half the time. What is there reads as zeros, and takes no space unless syncs
        come often: then it is written, since a sync that need not allocate anything is quicker still."""
        self.directory = directory
        self._ahead = ahead
        self._syncs = 0
        self._syncs_before = 0
        """How many there had been when the file was last made longer."""
        self._lengthened = ahead
        """By how much that was."""
        self._room = 0
        """How long the file being written is; only kept with `ahead`."""
        self._read_only = read_only
        self._sizes: dict[int, int] = {}
        for entry in os.scandir(directory):
            if len(entry.name) == NUMBER_DIGITS and entry.name.isdigit():
                self._sizes[int(entry.name)] = entry.stat().st_size
        self._sizes = dict(sorted(self._sizes.items()))
        self._writer = -1
        self._unsynced: dict[int, int] = {}
        """Write descriptors of full files that no sync has covered yet."""
        self._readers: OrderedDict[int, _Reader] = OrderedDict()
        self._lock = threading.Lock()
        self._synced = Mark(0, 0)
        self._directory_changes = 0 if read_only else 1
        """Names made and removed so far; the first stands for those of an earlier process."""
        self._directory_synced = 0
        self._failure: OSError | None = None
        self.floor = 0
        """Free space that an append leaves alone; 0 does not even look."""
        self.number = 0
        """The file being written; 0 before `resume` or `create`."""
        self.offset = 0
        """The end of that file."""

    def path(self, number: int) -> Path:
        """Where a file lies."""
        return self.directory / f"{number:0{NUMBER_DIGITS}d}"

    def numbers(self) -> list[int]:
        """The files there are, oldest first."""
        return list(self._sizes)

    def size(self, number: int) -> int:
        """The bytes in a file, 0 when there is no such file."""
        if number == self.number:
            return self.offset
        return self._sizes.get(number, 0)

    def total(self) -> int:
        """The bytes in all files."""
        others = sum(size for number, size in self._sizes.items() if number != self.number)
        return others + self.offset

    def append(self, buffers: Sequence[Buffer], size: int) -> int:
        """Append `size` bytes and return their offset. On OSError nothing has changed."""
        if self.floor:
            self._check_floor(size)
        offset = self.offset
        if offset + size > self._room and self._ahead:
            self._extend(offset + size)
        try:
            written = os.pwritev(self._writer, buffers, offset)
            if written != size:
                self._write_rest(b"".join(buffers)[written:], offset + written)
        except OSError:
            self._undo(offset)
            raise
        self.offset = offset + size
        return offset

    def _extend(self, needed: int) -> None:
        """Make room for what is about to be written, and some more; where that cannot be, the file grows as usual."""
        often = (self._syncs - self._syncs_before) * OFTEN_BYTES >= self._lengthened
        self._syncs_before = self._syncs
        if often and self._write_zeros(needed):
            return
        room = needed + self._ahead
        try:
            os.ftruncate(self._writer, room)
        except OSError:
            self._ahead = 0
        else:
            self._room, self._lengthened = room, self._ahead

    def _write_zeros(self, start: int) -> bool:
        """Write what `_extend` makes; whether there was space for it."""
        try:
            written = os.pwrite(self._writer, _ZEROS, start)
        except OSError:
            return False
        if written:
            self._room, self._lengthened = start + written, written
        return written > 0

    def _check_floor(self, size: int) -> None:
        if free_bytes(self.directory) < self.floor + size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _write_rest(self, rest: bytes, offset: int) -> None:
        """A short write is the kernel's way to say that the disk is nearly full: insist, to learn why."""
        while rest:
            written = os.pwrite(self._writer, rest, offset)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest = rest[written:]
            offset += written

    def _undo(self, offset: int) -> None:
        """Best effort: bytes that stay beyond the end are overwritten, or cut before the next file begins."""
        self._room = 0
        try:
            os.ftruncate(self._writer, offset)
        except OSError:
            pass

    def create(self, number: int, first: bytes = b"") -> None:
        """Begin file `number` with the bytes `first`. On OSError nothing has changed."""
        assert not self._read_only and number > self.number
        if self._writer >= 0:
            os.ftruncate(self._writer, self.offset)
        path = self.path(number)
        writer = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if os.pwrite(writer, first, 0) != len(first):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.close(writer)
            os.unlink(path)
            raise
        self._switch(number, writer, len(first))
        self._directory_changes += 1

    def resume(self, number: int, dirty: Sequence[int] = ()) -> None:
        """Go on writing at the end of the last file; the next sync covers the `dirty` ones too."""
        assert not self._read_only and self._writer < 0
        for earlier in dirty:
            self._unsynced[earlier] = os.open(self.path(earlier), os.O_RDWR | os.O_CLOEXEC)
        self._switch(number, os.open(self.path(number), os.O_RDWR | os.O_CLOEXEC), self._sizes[number])

    def start_after(self, number: int) -> None:
        """Let the next `create` begin beyond `number`, though there may be no such file."""
        assert self._writer < 0
        self.number = number
        self.offset = self._sizes.get(number, 0)

    def _switch(self, number: int, writer: int, offset: int) -> None:
        with self._lock:
            if self._writer >= 0:
                self._sizes[self.number] = self.offset
                self._unsynced[self.number] = self._writer
            self._writer = writer
            self._room = 0
            self.number = number
            self.offset = offset
            self._sizes[number] = offset

    def read(self, number: int, offset: int, length: int) -> bytes:
        """The bytes there, fewer at the end of the file. FileNotFoundError when there is no such file."""
        reader = self._reader(number)
        descriptor = reader.descriptor
        data = os.pread(descriptor, min(length, _READ_BYTES_MAX), offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        got = len(data)
        while got < length and (data := os.pread(descriptor, min(length - got, _READ_BYTES_MAX), offset + got)):
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def _reader(self, number: int) -> _Reader:
        with self._lock:
            reader = self._readers.get(number)
            if reader is not None:
                self._readers.move_to_end(number)
                return reader
            reader = self._readers[number] = _Reader(os.open(self.path(number), os.O_RDONLY | os.O_CLOEXEC))
            if len(self._readers) > READ_DESCRIPTORS_MAX:
                self._readers.popitem(last=False)
            return reader

    def leave_out_zeros(self, number: int, offset: int) -> None:
        """Let a file that is not being written count only to its last byte that is not zero, if that is beyond
        `offset`, else to there: what follows was made ahead and never written."""
        end = self._sizes[number]
        while end > offset:
            start = max(offset, end - _ZERO_BYTES)
            kept = self.read(number, start, end - start).rstrip(b"\0")
            if kept:
                end = start + len(kept)
                break
            end = start
        self._sizes[number] = end

    def truncate(self, number: int, size: int) -> None:
        """Cut a file that is not being written, so that what was cut does not come back after a power cut."""
        assert not self._read_only and number != self.number and size <= self._sizes[number]
        descriptor = os.open(self.path(number), os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._sizes[number] = size

    def set_aside(self, number: int, offset: int = 0) -> None:
        """Cut a file from `offset` on, and keep what was cut beside it if the disk has room.

        Whoever looks for what is missing finds it there; nothing here ever reads it again.
        """
        kept = self.directory / f"lost-{self.path(number).name}-{offset:0{NUMBER_DIGITS}d}"
        try:
            kept.write_bytes(self.read(number, offset, self.size(number) - offset))
        except OSError:
            kept.unlink(missing_ok=True)
        if offset:
            self.truncate(number, offset)
        else:
            self.remove(number)

    def unlink(self, number: int) -> None:
        """Any thread. Let the disk have the space of a file that nobody needs, which takes some milliseconds; `remove`
        has to follow."""
        self.path(number).unlink(missing_ok=True)
        with self._lock:
            reader = self._readers.pop(number, None)
            descriptor = self._unsynced.pop(number, -1)
        del reader
        if descriptor >= 0:
            os.close(descriptor)

    def remove(self, number: int) -> None:
        """Delete a file that is not being written."""
        assert not self._read_only and number != self.number
        self.unlink(number)
        del self._sizes[number]
        self._directory_changes += 1

    def mark(self) -> Mark:
        """Where the next byte goes."""
        with self._lock:
            return Mark(self.number, self.offset)

    def sync(self) -> Mark:
        """Bring all that was appended before the call to disk; returns how far that is. Any thread."""
        with self._lock:
            self._syncs += 1
            mark = Mark(self.number, self.offset)
            if self._failure is not None:
                text = f"an earlier sync of {self.directory} failed: {self._failure}"
                raise OSError(self._failure.errno, text)
            changes = self._directory_changes
            if mark == self._synced and not self._unsynced and changes == self._directory_synced:
                return mark
            full = list(self._unsynced)
            descriptors = [os.dup(descriptor) for descriptor in self._unsynced.values()]
            if self._writer >= 0:
                descriptors.append(os.dup(self._writer))
            directory_changed = changes != self._directory_synced
        try:
            for descriptor in descriptors:
                os.fdatasync(descriptor)
            if directory_changed:
                sync_directory(self.directory)
        except OSError as failure:
            self._failure = failure
            raise
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        with self._lock:
            self._synced = max(self._synced, mark)
            self._directory_synced = max(self._directory_synced, changes)
            for number in full:
                descriptor = self._unsynced.pop(number, -1)
                if descriptor >= 0:
                    os.close(descriptor)
        return mark

    def close(self) -> None:
        """Close every descriptor; nothing is synced."""
        if self._room > self.offset:
            self._undo(self.offset)
        with self._lock:
            for descriptor in (*self._unsynced.values(), self._writer):
                if descriptor >= 0:
                    os.close(descriptor)
            self._readers.clear()
            self._unsynced.clear()
            self._writer = -1


def free_bytes(directory: Path) -> int:
    """The room that the disk of a directory has for us."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
