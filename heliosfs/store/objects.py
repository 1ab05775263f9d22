"""The object store: immutable byte strings named by their digest, each stored once.

Bodies lie in packs, the index (digest -> location) in the database. What is put is in the `pending` part of
the index until a flush batch takes it over, and a batch takes only what a sync of the packs has covered: the
index never names bytes that a power cut could lose.

Must never return bytes whose digest differs, and must never take the index's word that an object is good
once a read of it has failed: such an object is `suspect`, and the next put of its content writes it again.
Nor may damage that nobody has met yet absorb what is put: an object of an earlier process is read before its
presence counts for a put.

`load`, `verify`, `sync` and `unlink_packs` may be called from any thread, everything else from the owner's.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterator, Set
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from heliosfs.base.digests import digest as digest_of
from heliosfs.base.errors import Corruption
from heliosfs.store import codec, collector, index
from heliosfs.store.cache import ByteCache
from heliosfs.store.collector import Gone
from heliosfs.store.database import INDEX, SETTINGS, Batch, Database
from heliosfs.store.packs import Location, Packs
from heliosfs.store.segments import Mark

CHUNK = 1
NODE = 2

CACHE_BYTES = 64 << 20
"""Verified chunks kept in memory. Nodes are not among them: who reads those keeps them decoded."""

SOUND_MAX = 1 << 16
"""Objects remembered to be sound: about 7 MB, for the content of some gigabytes."""


CONDEMNED_MAX = 10_000
"""Objects that one flush removes from the index: to write as many takes some 20 ms, in which no request is answered."""


class Dead(NamedTuple):
    """What a flush may remove from the index: objects, and packs without a live one."""

    condemned: frozenset[bytes]
    emptied: frozenset[int]


class Flushed(NamedTuple):
    """What one flush batch holds of the index."""

    taken: dict[bytes, Location]
    condemned: frozenset[bytes]
    suspects: frozenset[bytes]
    emptied: frozenset[int]


class Objects:
    """The objects of one store."""

    def __init__(self, packs: Packs, database: Database, *, read_only: bool = False, cache_bytes: int = CACHE_BYTES):
        self._packs = packs
        self._database = database
        self._cache: ByteCache[bytes, bytes] = ByteCache(cache_bytes)
        self._pending: dict[bytes, Location] = {}
        """In the order of their locations."""
        self._suspects: set[bytes] = set()
        """Found damaged since the last flush; before that the index has the flag."""
        self._sound: set[bytes] = set()
        """Some of those that were written or read well by this process."""
        self._condemned: set[bytes] = set()
        """Dead entries that the next flushes remove from the index; to everyone else they are gone."""
        self._emptied: dict[int, Mark] = {}
        """Packs without a live object, and how far the packs must be in the index before they may go."""
        self._removable: set[int] = set()
        self._written: list[Flushed] = []
        """What a thread wrote to the database, to be settled by the owner's."""
        self._touched: set[bytes] | None = None
        """What was put since `protect`: live, whatever the mark phase saw."""
        self._synced = Mark(0, 0)
        self.statistics = index.decode_statistics(database.get(SETTINGS, index.STATISTICS_KEY))
        lengths = {
            index.pack_of(key): index.decode_length(value) for key, value in database.scan(SETTINGS, index.PACK_PREFIX)
        }
        self.forgotten = 0 if read_only else packs.recover(lengths)
        """Bytes of packs that were not in the index at open, and are gone."""
        self._synced = packs.mark()

    # Writing

    def put(self, data: bytes | memoryview, kind: int) -> bytes:
        """Store `data` unless it is stored already; returns its digest. On OSError nothing has changed."""
        digest = digest_of(data)
        if self._touched is not None:
            self._touched.add(digest)
        location, suspect = self._locate(digest)
        if location is not None and not suspect and self._is_sound(digest, location):
            self.statistics.dedup_hits += 1
            self.statistics.dedup_bytes += len(data)
            return digest
        used, body = codec.encode(data)
        new = self._packs.append(kind, used, len(data), digest, body)
        if location is not None:
            self.statistics.count(location, -1)
        self.statistics.count(new, 1)
        self._enter(digest, new)
        return digest

    def _is_sound(self, digest: bytes, location: Location) -> bool:
        """Whether an object is as it was stored: one of an earlier process is read, once. About 30 us for 64 KiB."""
        if not self._packs.holds(location):
            return False
        if digest in self._sound or digest in self._pending:
            return True
        try:
            if not self._packs.checks(location, digest):
                self._suspects.add(digest)
                return False
        except OSError:
            return False
        if len(self._sound) >= SOUND_MAX:
            self._sound.clear()
        self._sound.add(digest)
        return True

    def _enter(self, digest: bytes, location: Location) -> None:
        """Make `location`, the newest, the place of `digest`."""
        self._pending.pop(digest, None)
        self._pending[digest] = location
        self._suspects.discard(digest)

    def _locate(self, digest: bytes) -> tuple[Location | None, bool]:
        """Where an object lies, and whether it is suspect."""
        location = self._pending.get(digest)
        if location is None:
            if digest in self._condemned:
                return None, False
            value = self._database.get(INDEX, digest)
            if value is None:
                return None, False
            location, suspect = index.decode_entry(value)
            if suspect:
                return location, True
        return location, digest in self._suspects

    # Reading

    def stored_length(self, digest: bytes) -> int:
        """The bytes that an object takes on disk; 0 when it is not there."""
        location, _ = self._locate(digest)
        return 0 if location is None else location.stored_length

    def get(self, digest: bytes) -> bytes:
        """The bytes named `digest`, verified. Corruption when they are damaged or missing."""
        data = self._cache.get(digest)
        if data is not None:
            self.statistics.cache_hits += 1
            return data
        self.statistics.cache_misses += 1
        kind, data = self._load(digest)
        if kind != NODE:
            self._cache.put(digest, data)
        return data

    def load(self, digest: bytes) -> bytes:
        """As `get`, from disk, past the cache. Any thread."""
        return self._load(digest)[1]

    def _load(self, digest: bytes) -> tuple[int, bytes]:
        """The kind of an object and its bytes."""
        location, _ = self._locate(digest)
        while location is not None:
            try:
                return location.kind, self._read(location, digest)[1]
            except Corruption:
                moved, _ = self._locate(digest)
                if moved == location:
                    self._suspects.add(digest)
                    raise
                location = moved
        raise Corruption("object", "no pack: it is missing", digest)

    def _read(self, location: Location, digest: bytes) -> tuple[bytes, bytes]:
        """The stored and the raw bytes of an object, verified."""
        if location == index.UNKNOWN:
            raise Corruption("object", "its entry in the index", digest)
        try:
            body = self._packs.read(location, digest)
        except OSError as failure:
            if failure.errno != errno.EIO:
                raise
            raise Corruption("object", f"{self._packs.where(location)}: {failure}", digest) from failure
        data = codec.decode(location.codec, body, location.raw_length)
        if data is None or digest_of(data) != digest:
            raise Corruption("object", self._packs.where(location), digest)
        return body, data

    def verify(self, digest: bytes) -> None:
        """Read an object from disk. Corruption when it is damaged or missing. Any thread."""
        self.load(digest)

    def __contains__(self, digest: bytes) -> bool:
        """Whether a good object has this name, as far as is known: a suspect one does not count."""
        location, suspect = self._locate(digest)
        return location is not None and not suspect and self._packs.holds(location)

    def is_pending(self, digest: bytes) -> bool:
        """Whether the index does not have it yet: a kill now would lose it."""
        return digest in self._pending

    def iterate(self, *, condemned: bool = False) -> Iterator[tuple[bytes, int, Location]]:
        """Every object as of the call: digest, kind and location. Damaged and suspect ones too.

        With `condemned` also those that the next flushes remove.
        """
        hidden = frozenset() if condemned else frozenset(self._condemned)
        return self._entries(self._database.scan(INDEX), dict(self._pending), hidden)

    def _entries(
        self, scan: Iterator[tuple[bytes, bytes]], pending: dict[bytes, Location], hidden: frozenset[bytes]
    ) -> Iterator[tuple[bytes, int, Location]]:
        for digest, value in scan:
            if digest not in pending and digest not in hidden:
                location, _ = index.decode_entry(value)
                yield digest, location.kind, location
        for digest, location in pending.items():
            yield digest, location.kind, location

    def copies(self, wanted: Set[bytes]) -> Iterator[tuple[bytes, int, bytes]]:
        """Whole copies of objects wherever a pack has one: digest, kind and bytes. Reads every pack."""
        for pack in self._packs.numbers():
            for location, digest in self._packs.records(pack, wanted):
                try:
                    yield digest, location.kind, self._read(location, digest)[1]
                except Corruption:
                    continue

    # Flushing

    def sync(self) -> None:
        """Bring the packs to disk, as far as they are written at the call. Any thread."""
        self._synced = max(self._synced, self._packs.sync())

    def dead(self) -> Dead:
        """What is dead by now, for the `write_index` of a batch that holds the states as of now.

        What is condemned later may be needed by those states: after a power cut they are what is left. While there is
        more than one flush should remove, packs wait for the last one: until then the index has something in them.
        """
        self.settle()
        if len(self._condemned) > CONDEMNED_MAX:
            return Dead(frozenset(islice(self._condemned, CONDEMNED_MAX)), frozenset())
        return Dead(frozenset(self._condemned), frozenset(self._emptied))

    @property
    def condemned(self) -> int:
        """How many objects flushes have still to remove from the index."""
        return len(self._condemned)

    def write_index(self, batch: Batch, dead: Dead | None = None) -> None:
        """Add to a flush batch all that changed in the index and that a `sync` has covered.

        Without `dead` what is dead at the call goes.
        """
        dead = dead or self.dead()
        self.settle()
        synced = self._synced
        taken: dict[bytes, Location] = {}
        lengths: dict[int, int] = {}
        for digest, location in self._pending.items():
            if (location.pack, location.end) > synced:
                break
            taken[digest] = location
            lengths[location.pack] = location.end
        condemned = dead.condemned & self._condemned
        emptied = frozenset(pack for pack in dead.emptied & self._emptied.keys() if self._emptied[pack] <= synced)
        for digest in condemned:
            batch.delete(INDEX, digest)
        suspects = self._write_suspects(batch)
        for digest, location in taken.items():
            batch.put(INDEX, digest, index.encode_entry(location))
        for pack, length in lengths.items():
            batch.put(SETTINGS, index.pack_key(pack), index.encode_length(length))
        for pack in emptied:
            batch.delete(SETTINGS, index.pack_key(pack))
        self._write_statistics(batch, len(taken))
        flushed = Flushed(taken, condemned, suspects, emptied)
        batch.when_written(lambda: self._written.append(flushed))

    def _write_suspects(self, batch: Batch) -> frozenset[bytes]:
        """Damage outlives the process, so that the same content is written again whenever it comes."""
        suspects = frozenset(self._suspects - self._pending.keys())
        for digest in suspects - self._condemned:
            value = self._database.get(INDEX, digest)
            if value is not None:
                location, _ = index.decode_entry(value)
                batch.put(INDEX, digest, index.encode_entry(location, suspect=True))
        return suspects

    def _write_statistics(self, batch: Batch, taken: int) -> None:
        """The counters without what is still pending."""
        counted = replace(self.statistics)
        for location in islice(self._pending.values(), taken, None):
            counted.count(location, -1)
        batch.put(SETTINGS, index.STATISTICS_KEY, counted.encode())

    def settle(self) -> None:
        """Forget what the database knows by now. The write itself may have been in any thread."""
        while self._written:
            flushed = self._written.pop(0)
            for digest, location in flushed.taken.items():
                if self._pending.get(digest) is location:
                    del self._pending[digest]
            # What was condemned while the flush was under way, and put again before it had its index, is in there.
            self._condemned -= flushed.condemned | flushed.taken.keys()
            self._suspects -= flushed.suspects
            for pack in flushed.emptied:
                del self._emptied[pack]
            self._removable |= flushed.emptied

    # Collecting

    def protect(self) -> None:
        """From now on what is put is live for the next `collect`. To be called before marking begins."""
        self.settle()
        self._touched = set()

    def collect(self, live: Callable[[bytes], bool]) -> Generator[None, None, Gone]:
        """Forget every object that is neither `live` nor pending nor put since `protect`, in bounded steps.

        Packs that are mostly dead are rewritten. Their files go in two steps, since they must outlive the
        flush that says so: `removable_packs` after its batch was written, and `remove_packs` of what that
        returned after the database was synced. One collection at a time. OSError when the disk is full; what
        was done until then holds. Returns what went.
        """
        self.settle()
        if self._touched is None:
            self.protect()
        return collector.collect(self, live)

    def end_protection(self) -> None:
        """What is put no longer needs to be remembered."""
        self._touched = None

    def is_protected(self, digest: bytes) -> bool:
        """Whether an object is live whatever the mark phase saw."""
        return digest in self._pending or (self._touched is not None and digest in self._touched)

    def condemn(self, digest: bytes, location: Location) -> None:
        """Forget a dead object; its index entry goes with one of the next flushes."""
        self.statistics.count(location, -1)
        self._condemned.add(digest)
        self._suspects.discard(digest)
        self._cache.drop(digest)

    def sparse_packs(self, live_bytes: dict[int, int], share: float) -> list[int]:
        """The packs of which less than `share` is live. Writing goes on elsewhere."""
        packs = self._packs
        busy = self._emptied.keys() | self._removable
        sparse = [
            pack
            for pack in packs.numbers()
            if pack not in busy and packs.size(pack) and live_bytes.get(pack, 0) < share * packs.size(pack)
        ]
        if packs.current in sparse:
            packs.leave()
        return sparse

    def lies_at(self, digest: bytes, location: Location) -> bool:
        """Whether that is where an object lies now."""
        return self._locate(digest)[0] == location

    def move(self, digest: bytes, location: Location) -> None:
        """Append an object anew, if that is where it still lies. Corruption when it is damaged."""
        if not self.lies_at(digest, location):
            return
        try:
            body, _ = self._read(location, digest)
        except Corruption:
            self._suspects.add(digest)
            raise
        new = self._packs.append(location.kind, location.codec, location.raw_length, digest, body)
        self._enter(digest, new)

    def give_up(self, pack: int) -> None:
        """Let a pack go once the index in the database names nothing in it."""
        self._emptied[pack] = self._packs.mark()

    def removable_packs(self) -> frozenset[int]:
        """The packs that no entry written to the database names any more."""
        self.settle()
        return frozenset(self._removable)

    def unlink_packs(self, packs: frozenset[int]) -> None:
        """Any thread. What takes long of `remove_packs`, which has to follow."""
        for pack in packs:
            self._packs.unlink(pack)

    def remove_packs(self, packs: frozenset[int]) -> int:
        """Delete packs, once the database is synced; returns the bytes freed."""
        freed = 0
        for pack in packs & self._removable:
            freed += self._packs.size(pack)
            self._packs.remove(pack)
            self._removable.discard(pack)
        return freed

    def leave_free(self, size: int) -> None:
        """From now on `put` leaves this much of the disk alone; 0: all of it may be used."""
        self._packs.leave_free(size)

    def packed_bytes(self) -> int:
        """What the packs take on the disk, dead objects included."""
        return self._packs.total()

    def close(self) -> None:
        """Close the packs; nothing is synced."""
        self._packs.close()
