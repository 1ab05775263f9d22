"""The database: everything small that is not the journal, in RocksDB. The only module that imports rocksdict.

Values are byte strings in families. What one batch holds becomes visible, and durable, as a whole.
RocksDB calls hold the interpreter's lock, except `sync`: bodies of objects must never come here.

Two traps of rocksdict decide the shape of this module. Iterating one of its `Snapshot`s returns live data,
while a plain iterator is a stable view from its creation: `scan` creates one at the call, not at the first
step. And a database stays locked until every handle, iterator and batch is gone: all of them are kept
track of here and let go by `close`.

A write that fails, as on a full disk, leaves RocksDB unable to write until it is opened again. So a write is
not tried without room for it, and after a failure the next `batch` opens the database anew.

RocksDB's recovery drops a damaged tail of its log without a word, be it synced or not. So each `sync` notes
the sequence number it covered in a file of its own, and a database that comes up older than that is refused.
"""

from __future__ import annotations

import enum
import errno
import os
import struct
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import rocksdict

from heliosfs.base.errors import Corruption, HeliosError
from heliosfs.store.segments import free_bytes


class Family(enum.IntEnum):
    """The families of keys."""

    INDEX = 0
    """Object index: digest -> where the object lies."""
    LAYERS = 1
    """The layer table."""
    RECORDS = 2
    """Layer records as of the last flush."""
    REFS = 3
    OPERATIONS = 4
    SETTINGS = 5
    """Small single values: pack lengths, statistics, the journal position."""


INDEX = Family.INDEX
LAYERS = Family.LAYERS
RECORDS = Family.RECORDS
REFS = Family.REFS
OPERATIONS = Family.OPERATIONS
SETTINGS = Family.SETTINGS

BLOCK_CACHE_BYTES = 32 << 20
"""Decompressed blocks of all families together."""

WRITE_BUFFER_BYTES = 16 << 20
"""Per family: a flush batch of the volume is a few MB, so several fit before RocksDB writes a file."""

LOG_BYTES_MAX = 64 << 20
"""RocksDB's own log, which is read again at open."""

BLOOM_BITS_PER_KEY = 10
"""1 % false positives: a look-up of an unknown digest costs 0.4 us instead of reading a block."""

FREE_BYTES_MIN = 8 << 20
"""Free space beyond a batch without which it is not tried: part of the store's reserve. RocksDB writes the
same bytes a second time when it turns its log into a file."""

SYNCED_NAME = "SYNCED"
"""The file in the database's directory that holds the last synced sequence number."""

_SYNCED = struct.Struct("<QQ")
"""The number and its complement: a torn note counts as none."""


CHANGE = struct.Struct("<BBHI")
"""A change in a row of them: what is done, family, length of the key, length of the value; both follow."""

REMOVE, PUT, REMOVE_BETWEEN = 0, 1, 2
"""What is done. The last removes every key from the key up to but without the value."""

_pack_change = CHANGE.pack


class DatabaseDamaged(HeliosError):
    """The database cannot be opened."""


class Batch:
    """Changes that `Database.write` makes at once; later ones win over earlier ones. Good for one write."""

    def __init__(self, handles: list[Any]) -> None:
        self._batch: Any = rocksdict.WriteBatch(raw_mode=True)
        self._handles = handles
        self._callbacks: list[Callable[[], None]] = []
        self.changes: list[bytes] = []
        """What was done, but for the index of objects: see `spare`. As bytes, of which a hundred thousand are no work
        for Python's garbage collector."""

    def put(self, family: Family, key: bytes, value: bytes) -> None:
        """Set a key."""
        self._batch.put(key, value, self._handles[family])
        if family != INDEX:
            self.changes.append(_pack_change(PUT, family, len(key), len(value)) + key + value)

    def delete(self, family: Family, key: bytes) -> None:
        """Remove a key, if there."""
        self._batch.delete(key, self._handles[family])
        if family != INDEX:
            self.changes.append(_pack_change(REMOVE, family, len(key), 0) + key)

    def delete_prefix(self, family: Family, prefix: bytes) -> None:
        """Remove every key that begins with `prefix`."""
        end = after_prefix(prefix)
        assert end is not None, "a prefix is not empty and not all ones"
        self.delete_between(family, prefix, end)

    def delete_between(self, family: Family, start: bytes, end: bytes) -> None:
        """Remove every key from `start` up to but without `end`."""
        self._batch.delete_range(start, end, self._handles[family])
        if family != INDEX:
            self.changes.append(_pack_change(REMOVE_BETWEEN, family, len(start), len(end)) + start + end)

    def when_written(self, callback: Callable[[], None]) -> None:
        """Call back once the batch has been written, and not at all when that fails."""
        self._callbacks.append(callback)

    def __len__(self) -> int:
        return int(self._batch.len())

    def size(self) -> int:
        """The bytes of the changes so far."""
        return int(self._batch.size_in_bytes())

    def _take(self) -> tuple[Any, list[Callable[[], None]]]:
        batch, self._batch = self._batch, None
        return batch, self._callbacks

    def _release(self) -> None:
        self._batch = None
        self._handles = []
        self.changes = []


class Scan(Iterator[tuple[bytes, bytes]]):
    """The keys of a family under a prefix, as they were when the scan was made."""

    def __init__(self, iterator: Any, options: Any, where: str) -> None:
        self._iterator = iterator
        self._options = options
        self._where = where
        self._cut_short = False

    def __next__(self) -> tuple[bytes, bytes]:
        iterator = self._iterator
        if self._cut_short:
            raise HeliosError(f"the database in {self._where} was closed while it was being read")
        if iterator is None:
            raise StopIteration
        if not iterator.valid():
            self._end()
            raise StopIteration
        pair = (iterator.key(), iterator.value())
        iterator.next()
        return pair

    def _end(self) -> None:
        """An iterator also becomes invalid at a damaged block: that must not look like the last key."""
        iterator, self._iterator = self._iterator, None
        try:
            iterator.status()
        except Exception as failure:
            raise Corruption("database", f"{self._where}: {failure}") from failure

    def close(self) -> None:
        """End the scan early."""
        self._iterator = None
        self._options = None

    def _cut(self) -> None:
        """The database goes: what was not read yet must not look as if it were not there."""
        self._cut_short = self._iterator is not None
        self.close()


class Database:
    """RocksDB in a directory. HeliosError when it is damaged or in use."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._cache: Any = rocksdict.Cache(BLOCK_CACHE_BYTES)
        self._scans: weakref.WeakSet[Scan] = weakref.WeakSet()
        self._batches: weakref.WeakSet[Batch] = weakref.WeakSet()
        self._sync_lock = threading.Lock()
        self._noted = 0
        """The sequence number in the note."""
        self._failure: OSError | None = None
        """Why a write failed: none is possible until the database has been opened again."""
        self._open()

    def _open(self) -> None:
        families = {family.name.lower(): self._options() for family in Family}
        if self._read_only:
            access = rocksdict.AccessType.read_only(False)
        else:
            access = rocksdict.AccessType.read_write()
        self._rocks: Any = None
        self._tables: list[Any] = []
        self._handles: list[Any] = []
        try:
            self._rocks = rocksdict.Rdict(str(self.path), self._options(), families, access)
            self._tables.extend(self._rocks.get_column_family(name) for name in families)
            self._handles.extend(self._rocks.get_column_family_handle(name) for name in families)
        except Exception as failure:
            self._let_go()
            if as_system_error(failure).errno == errno.ENOSPC:
                raise no_room(self.path) from failure
            if self.path.exists() and not os.access(self.path, os.W_OK):
                raise HeliosError(
                    f"the database in {self.path} cannot be opened, not even for reading, where nothing can be written "
                    f"({failure}): make that possible, or copy the store to where it is"
                ) from failure
            raise damaged(self.path, str(failure)) from failure
        self._check_synced()

    def _options(self) -> Any:
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        options.set_max_total_wal_size(LOG_BYTES_MAX)
        options.set_max_background_jobs(2)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(1 << 20)
        options.set_stats_dump_period_sec(0)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.point_in_time())
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_bloom_filter(BLOOM_BITS_PER_KEY, False)
        table.set_format_version(5)
        options.set_block_based_table_factory(table)
        return options

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        table = self._tables[family]
        try:
            value: bytes | None = table.get(key)
        except Exception as failure:
            raise Corruption("database", f"{self.path}: {failure}") from failure
        return value

    def scan(self, family: Family, prefix: bytes = b"") -> Scan:
        """All keys that begin with `prefix`, in order, with their values, as they are now."""
        options = rocksdict.ReadOptions()
        end = after_prefix(prefix)
        if end is not None:
            options.set_iterate_upper_bound(end)
        iterator = self._tables[family].iter(options)
        iterator.seek(prefix) if prefix else iterator.seek_to_first()
        scan = Scan(iterator, options, str(self.path))
        self._scans.add(scan)
        return scan

    def batch(self) -> Batch:
        """An empty batch. OSError when the database could not be written and still cannot."""
        if self._failure is not None:
            self._reopen(self._failure)
        batch = Batch(self._handles)
        self._batches.add(batch)
        return batch

    def _reopen(self, failure: OSError) -> None:
        """Open anew after a failed write, once there is room for what opening writes."""
        self._require_space(opening_bytes(self.path) - FREE_BYTES_MIN, failure)
        with self._sync_lock:
            self._let_go()
            self._open()
            self._failure = None

    def _require_space(self, size: int, failure: OSError | None = None) -> None:
        if free_bytes(self.path) < size + FREE_BYTES_MIN:
            text = f"the database in {self.path} has too little free space to be written"
            raise OSError(errno.ENOSPC, text) from failure

    def write(self, batch: Batch) -> None:
        """Make the changes of a batch, all or none; durable after the next `sync`. OSError on a full disk."""
        if self._failure is not None:
            raise self._failure
        self._require_space(batch.size())
        changes, callbacks = batch._take()
        try:
            self._rocks.write(changes)
        except Exception as failure:
            self._failure = as_system_error(failure)
            raise self._failure from failure
        for callback in callbacks:
            callback()

    def sequence(self) -> int:
        """How many changes there have been: another number is another state."""
        return int(self._rocks.latest_sequence_number())

    def sync(self) -> None:
        """Bring every batch written before the call to disk. Any thread."""
        with self._sync_lock:
            sequence = self._rocks.latest_sequence_number()
            try:
                self._rocks.flush_wal(True)
            except Exception as failure:
                self._failure = as_system_error(failure)
                raise self._failure from failure
            if sequence > self._noted:
                self._note_synced(sequence)

    def _note_synced(self, sequence: int) -> None:
        """Not synced itself: a note that is lost leaves an older one, which still holds."""
        note = _SYNCED.pack(sequence, ~sequence & (1 << 64) - 1)
        descriptor = os.open(self.path / SYNCED_NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, note, 0)
        finally:
            os.close(descriptor)
        self._noted = sequence

    def _check_synced(self) -> None:
        try:
            note = (self.path / SYNCED_NAME).read_bytes()
        except FileNotFoundError:
            return
        if len(note) != _SYNCED.size:
            return
        sequence, complement = _SYNCED.unpack(note)
        if sequence ^ complement != (1 << 64) - 1:
            return
        present = self._rocks.latest_sequence_number()
        if present < sequence:
            self._let_go()
            raise damaged(self.path, f"changes {present + 1} to {sequence} were synced and are missing")
        self._noted = sequence

    def close(self) -> None:
        """Let go of everything, open scans and batches too; nothing is synced."""
        self._let_go()

    def _let_go(self) -> None:
        """RocksDB keeps the database locked until the last of these is gone. What it writes on the way is
        in its log already, so a failure to write it costs nothing."""
        for scan in list(self._scans):
            scan._cut()
        for batch in list(self._batches):
            batch._release()
        self._handles.clear()
        for table in self._tables:
            quietly_close(table)
        self._tables.clear()
        if self._rocks is not None:
            quietly_close(self._rocks)
            self._rocks = None


def quietly_close(table: Any) -> None:
    """Close, though the disk may be full."""
    try:
        table.close()
    except Exception:
        pass


def after_prefix(prefix: bytes) -> bytes | None:
    """The smallest key beyond all that begin with `prefix`, None when there is no bound."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else None


def opening_bytes(path: Path) -> int:
    """Free space that opening may need: RocksDB turns its log into files."""
    return 2 * sum(log.stat().st_size for log in path.glob("*.log")) + FREE_BYTES_MIN


def no_room(path: Path) -> HeliosError:
    """What to tell when the disk is too full to open the database for writing."""
    needed = (opening_bytes(path) >> 20) + 1
    return HeliosError(
        f"the disk is too full to open the database in {path}: make room for {needed} MiB on it, or mount the store "
        "read-only. Nothing is lost."
    )


def damaged(path: Path, cause: str) -> DatabaseDamaged:
    """What to tell when the database does not open."""
    return DatabaseDamaged(
        f"the database in {path} cannot be opened: {cause}. Before anything else, make a copy of the whole "
        "store and check the disk (dmesg, smartctl). Then let heliosfs fsck --repair rebuild it, or "
        "restore the store from a backup."
    )


def as_system_error(failure: Exception) -> OSError:
    """RocksDB tells causes in words: tell a full disk from the rest."""
    text = str(failure)
    full = "No space left" in text or "NoSpace" in text
    return OSError(errno.ENOSPC if full else errno.EIO, text)
