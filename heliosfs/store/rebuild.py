"""Rebuild: a new database for a store whose own cannot be read.

The index of objects comes from the packs, whose records say everything that it does; all else from the spare, which is
the database as of its last flush, or the one before. The journal goes on from either. What the spare does not have is
not made up; the damaged database is kept beside the new one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Container, Iterator
from itertools import count
from pathlib import Path

from heliosfs.base.errors import Corruption, HeliosError
from heliosfs.store import index
from heliosfs.store.database import INDEX, PUT, REMOVE, SETTINGS, Database, DatabaseDamaged, Family
from heliosfs.store.index import Statistics
from heliosfs.store.packs import Location, Packs
from heliosfs.store.segments import sync_directory
from heliosfs.store.spare import decode, frames
from heliosfs.store.store import DATABASE_NAME, PACKS_NAME, SPARE_NAME, read_format, take_lock

BATCH_ENTRIES = 10_000

Progress = Callable[[str, int, int], None]


class _All(Container[bytes]):
    def __contains__(self, digest: object) -> bool:
        return True


def is_readable(path: Path) -> bool:
    """Whether all of the database in the store at `path` can be read."""
    try:
        if not (path / DATABASE_NAME / "CURRENT").exists():
            return False
        database = Database(path / DATABASE_NAME, read_only=True)
        try:
            for family in Family:
                for _ in database.scan(family):
                    pass
        finally:
            database.close()
    except (DatabaseDamaged, Corruption):
        return False
    return True


def rebuild(path: Path, progress: Progress | None = None) -> Path:
    """Give the store at `path`, which nobody has open, a new database; where the damaged one is now.

    HeliosError when there is no spare, or it is damaged too: then nothing has changed.
    """
    tell = progress or (lambda what, done, total: None)
    read_format(path, with_database=False)
    lock = take_lock(path, False, "")
    try:
        new = path / f"{DATABASE_NAME}.new"
        shutil.rmtree(new, ignore_errors=True)
        changes = _changes(path / SPARE_NAME)
        database = Database(new)
        try:
            _restore(database, changes)
            _index_packs(database, path / PACKS_NAME, tell)
            database.sync()
        finally:
            database.close()
        return _exchange(path, new)
    finally:
        os.close(lock)


def _changes(spare: Path) -> list[bytes]:
    """The payloads of the spare up to the last one that ends a flush."""
    try:
        content = spare.read_bytes()
    except OSError as failure:
        message = f"the database cannot be rebuilt, since {spare} cannot be read: {failure.strerror}"
        raise HeliosError(message) from failure
    payloads: list[bytes] = []
    whole = 0
    for sequence, payload in frames(content):
        payloads.append(payload)
        if sequence:
            whole = len(payloads)
    if not whole:
        raise HeliosError(f"the database cannot be rebuilt, since {spare} is damaged as well")
    return payloads[:whole]


def _restore(database: Database, payloads: list[bytes]) -> None:
    for payload in payloads:
        batch = database.batch()
        for kind, family, key, value in decode(payload):
            if kind == PUT:
                batch.put(family, key, value)
            elif kind == REMOVE:
                batch.delete(family, key)
            else:
                batch.delete_between(family, key, value)
        database.write(batch)


def _index_packs(database: Database, directory: Path, tell: Progress) -> None:
    """Enter every whole record of the packs; the later of two is the one that counts."""
    packs = Packs(directory, read_only=True)
    try:
        statistics = index.decode_statistics(database.get(SETTINGS, index.STATISTICS_KEY))
        statistics.objects = statistics.raw_bytes = statistics.stored_bytes = 0
        batch = database.batch()
        batch.delete_prefix(SETTINGS, index.PACK_PREFIX)
        for pack in packs.numbers():
            batch.put(SETTINGS, index.pack_key(pack), index.encode_length(packs.size(pack)))
        database.write(batch)
        numbers = packs.numbers()
        for done, pack in enumerate(numbers):
            tell("packs", done, len(numbers))
            _enter(database, packs, pack, statistics)
        batch = database.batch()
        batch.put(SETTINGS, index.STATISTICS_KEY, statistics.encode())
        database.write(batch)
    finally:
        packs.close()


def _enter(database: Database, packs: Packs, pack: int, statistics: Statistics) -> None:
    found = dict(_whole(packs, pack))
    batch = database.batch()
    for number, (digest, location) in enumerate(found.items(), start=1):
        before = database.get(INDEX, digest)
        if before is not None:
            statistics.count(index.decode_entry(before)[0], -1)
        statistics.count(location, 1)
        batch.put(INDEX, digest, index.encode_entry(location))
        if not number % BATCH_ENTRIES:
            database.write(batch)
            batch = database.batch()
    database.write(batch)


def _whole(packs: Packs, pack: int) -> Iterator[tuple[bytes, Location]]:
    for location, digest in packs.records(pack, _All()):
        if packs.checks(location, digest):
            yield digest, location


def _exchange(path: Path, new: Path) -> Path:
    """Put the new database in the place of the damaged one. A cut in between leaves none: then all is done again."""
    database = path / DATABASE_NAME
    kept = next(place for number in count(1) if not (place := path / f"{DATABASE_NAME}.damaged-{number}").exists())
    if database.exists():
        os.rename(database, kept)
    os.rename(new, database)
    sync_directory(path)
    return kept
