"""The store: one directory with the journal, the packs, the database and what guards them.

The `format` file is written last, when everything else is there and on disk: a directory without it is not
yet a store, and a part that is missing beside it has been lost and is never made anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from pathlib import Path
from typing import Any

from heliosfs.base.clock import now
from heliosfs.base.errors import HeliosError
from heliosfs.store import chunker
from heliosfs.store.database import FREE_BYTES_MIN, Batch, Database, damaged, opening_bytes
from heliosfs.store.journal import Journal
from heliosfs.store.objects import Objects
from heliosfs.store.packs import Packs
from heliosfs.store.segments import free_bytes, sync_directory
from heliosfs.store.spare import Spare

FORMAT = 1
"""The number of the format this build reads and writes."""

RESERVE_BYTES = 40 << 20
"""Kept back so that deleting and collecting, which append first and free later, work on a full disk: the rest of one
segment of the journal made into objects, and a flush."""

PACKS_FREE_BYTES = 20 << 20
"""What is left of that for the flush."""

FLUSH_FREE_BYTES = FREE_BYTES_MIN + (4 << 20)
"""Room in which a flush can be expected to succeed: what the database wants to have, and a batch."""

LARGE_WRITE_BYTES = 1 << 20
"""What the kernel gives us in one request at most."""

FORMAT_NAME = "format"
LOCK_NAME = "lock"
JOURNAL_NAME = "journal"
PACKS_NAME = "packs"
DATABASE_NAME = "db"
RESERVE_NAME = "reserve"
SPARE_NAME = "spare"
_FORMAT_TEMPORARY = "format.new"


class Store:
    """An open store; made by `Store.open`."""

    def __init__(self, path: Path, lock: int, description: dict[str, Any], read_only: bool) -> None:
        self.path = path
        self.description = description
        """The contents of the format file."""
        self.read_only = read_only
        self._lock = lock
        self.reserve_used = False
        """The reserve is given away: only what frees space may use what it has left of the disk."""
        if not read_only and free_bytes(path) < opening_bytes(path / DATABASE_NAME):
            (path / RESERVE_NAME).unlink(missing_ok=True)
        self.journal = Journal(path / JOURNAL_NAME, read_only=read_only)
        self.database = Database(path / DATABASE_NAME, read_only)
        try:
            packs = Packs(path / PACKS_NAME, read_only=read_only)
            self.objects = Objects(packs, self.database, read_only=read_only)
            self._spare = None if read_only else Spare(path / SPARE_NAME, self.database)
            if not read_only:
                self.restore_reserve()
        except BaseException:
            self.database.close()
            raise

    @staticmethod
    def open(path: Path, *, create: bool = True, read_only: bool = False, holder: str = "") -> Store:
        """Open the store at `path`, or make one. `holder` (the mountpoint) is told to who comes second."""
        path = Path(path)
        if create and not read_only:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not (path / FORMAT_NAME).exists():
            raise HeliosError(f"{path} is not a store: it has no file named {FORMAT_NAME}. Check the path.")
        if not (path / FORMAT_NAME).exists():
            refuse_foreign(path)
        lock = take_lock(path, read_only, holder)
        try:
            if not (path / FORMAT_NAME).exists():
                make(path)
            return Store(path, lock, read_format(path), read_only)
        except BaseException:
            os.close(lock)
            raise

    def write(self, batch: Batch) -> None:
        """Any thread. Make a batch of changes for good, in the database and in its spare."""
        assert self._spare is not None, "a store that was opened read-only is not written to"
        before = self.database.sequence()
        changes = batch.changes
        self.database.write(batch)
        self.database.sync()
        self._spare.follow(before, changes, tight=self.reserve_used)

    def release_reserve(self) -> None:
        """Give the reserved space back to the disk, so that what frees space has room to work, and nothing else."""
        (self.path / RESERVE_NAME).unlink(missing_ok=True)
        self._use_reserve(True)

    def restore_reserve(self) -> bool:
        """Reserve space again; False when the disk is too full for that."""
        reserved = reserve(self.path)
        self._use_reserve(not reserved)
        return reserved

    def _use_reserve(self, used: bool) -> None:
        self.reserve_used = used
        self.journal.leave_free(RESERVE_BYTES if used else 0)
        self.objects.leave_free(PACKS_FREE_BYTES if used else 0)

    @property
    def kept_back(self) -> int:
        """How much of what the disk has free is not for writers."""
        return RESERVE_BYTES if self.reserve_used else 0

    def free_for_writers(self) -> int:
        """The room that the disk has for them; below zero when it is short of what is kept back."""
        return free_bytes(self.path) - self.kept_back

    def is_full(self) -> bool:
        """Whether writers are refused, or a large write would be."""
        return self.reserve_used or free_bytes(self.path) < LARGE_WRITE_BYTES

    def is_short_of_space(self) -> bool:
        """Whether the disk has less room than the reserve takes, beside that."""
        return self.reserve_used or free_bytes(self.path) < RESERVE_BYTES

    def close(self) -> None:
        """Close everything, once; nothing is synced."""
        if self._lock < 0:
            return
        self.journal.close()
        self.objects.close()
        self.database.close()
        if not self.read_only:
            os.ftruncate(self._lock, 0)
        os.close(self._lock)
        self._lock = -1


def refuse_foreign(path: Path) -> None:
    """Refuse a directory with anything in it but the beginnings of a store that was never finished."""
    for name in sorted(os.listdir(path)):
        whole = name in (LOCK_NAME, DATABASE_NAME, RESERVE_NAME, _FORMAT_TEMPORARY)
        if whole or (name in (JOURNAL_NAME, PACKS_NAME) and not os.listdir(path / name)):
            continue
        raise HeliosError(
            f"{path} is not a store and not empty (it has {name!r}, but no file named {FORMAT_NAME}). "
            "Give an empty or new directory, or restore the file from a backup."
        )


def make(path: Path) -> None:
    """Lay out an empty store; may find the beginnings of one."""
    for name in (JOURNAL_NAME, PACKS_NAME):
        (path / name).mkdir(mode=0o700, exist_ok=True)
    database = Database(path / DATABASE_NAME)
    try:
        database.sync()
    finally:
        database.close()
    reserve(path)
    description = {
        "format": FORMAT,
        "id": str(uuid.uuid4()),
        "created": now(),
        "chunker": chunker.PARAMETERS,
    }
    write_format(path, description)


def write_format(path: Path, description: dict[str, Any]) -> None:
    """Put the format file in place, durably, whole or not at all."""
    temporary = path / _FORMAT_TEMPORARY
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(description, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path)
    os.rename(temporary, path / FORMAT_NAME)
    sync_directory(path)
    sync_directory(path.parent)


def read_format(path: Path, *, with_database: bool = True) -> dict[str, Any]:
    """The format file. HeliosError when this build cannot read it, or a part of the store is missing."""
    place = path / FORMAT_NAME
    try:
        description = json.loads(place.read_text(encoding="utf-8"))
        number = int(description["format"])
        str(description["id"])
    except (ValueError, KeyError, TypeError) as failure:
        message = f"{place} is damaged ({failure}). Restore it from a backup of the store."
        raise HeliosError(message) from failure
    if number > FORMAT:
        raise HeliosError(
            f"the store in {path} has format {number}, and this build of heliosfs reads up to {FORMAT}. "
            "Install a newer release."
        )
    for name in (JOURNAL_NAME, PACKS_NAME):
        if not (path / name).exists():
            raise HeliosError(f"the store in {path} is damaged: {name} is missing. Restore it from a backup.")
    if with_database and not (path / DATABASE_NAME / "CURRENT").exists():
        raise damaged(path / DATABASE_NAME, "its file CURRENT is missing")
    return dict(description)


def take_lock(path: Path, read_only: bool, holder: str) -> int:
    """Lock the store while the descriptor is open. HeliosError that names the holder when it is held."""
    access = os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT
    lock = os.open(path / LOCK_NAME, access | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        message = held_message(path, os.pread(lock, 1 << 16, 0))
        os.close(lock)
        raise HeliosError(message) from None
    if not read_only:
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"pid": os.getpid(), "mountpoint": holder}).encode(), 0)
    return lock


def held_message(path: Path, contents: bytes) -> str:
    """Who holds the store, as far as its lock file says."""
    try:
        described = json.loads(contents)
        pid, mountpoint = int(described["pid"]), str(described["mountpoint"])
    except (ValueError, KeyError, TypeError):
        return f"store {path} is held by another process. Unmount it there first."
    where = f", mounted at {mountpoint}" if mountpoint else ""
    return (
        f"store {path} is held by pid {pid}{where}. Unmount it there first; after `umount --lazy` it is held until its "
        "last user lets go."
    )


def reserve(path: Path) -> bool:
    """Make the reserve file at its full size; False, and no file, when the disk is too full."""
    place = path / RESERVE_NAME
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        place.unlink(missing_ok=True)
        return False
    return True
