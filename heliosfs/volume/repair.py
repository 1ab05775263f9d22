"""Repair: bring damaged and missing objects back from wherever their bytes still are.

An object is named by the digest of its bytes, so whatever has that digest is it: a copy that a pack has beside the
damaged one, or a piece of a file of the same content somewhere else. What is found is stored anew; what is not is
marked, so that the same content heals it when it is next written. Nothing is ever removed or made up.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from stat import S_ISREG

from heliosfs.base.digests import digest as digest_of
from heliosfs.store import objects
from heliosfs.store.chunker import chunks
from heliosfs.store.store import Store

FILE_BYTES_MAX = 1 << 30
"""Larger files are not looked through for lost pieces: they are read whole."""

Progress = Callable[[str, int, int], None]


def repair(store: Store, bad: set[bytes], sources: Iterable[Path] = (), progress: Progress | None = None) -> set[bytes]:
    """Bring back what can be of the objects `bad`, which a check has found; those that are well again.

    The store is open for writing. `sources` are files and directories that may have the same content.
    """
    tell = progress or (lambda what, done, total: None)
    healed: set[bytes] = set()
    for digest, kind, data in store.objects.copies(bad):
        if digest not in healed:
            store.objects.put(data, kind)
            healed.add(digest)
            tell("copies", len(healed), len(bad))
    for piece in _pieces(sources):
        if len(healed) == len(bad):
            break
        digest = digest_of(piece)
        if digest in bad and digest not in healed:
            store.objects.put(piece, objects.CHUNK)
            healed.add(digest)
            tell("copies", len(healed), len(bad))
    _write_index(store)
    return healed


def _pieces(sources: Iterable[Path]) -> Iterator[memoryview]:
    """The chunks of all files, as they would be stored."""
    for path in _files(sources):
        try:
            status = path.lstat()
            if S_ISREG(status.st_mode) and status.st_size <= FILE_BYTES_MAX:
                yield from chunks(path.read_bytes())
        except OSError:
            # A file that cannot be read helps nobody; the others may.
            continue


def _files(sources: Iterable[Path]) -> Iterator[Path]:
    for source in sources:
        if not source.is_dir():
            yield source
        for above, _, names in os.walk(source):
            for name in names:
                yield Path(above, name)


def _write_index(store: Store) -> None:
    """The objects, and which ones are still damaged, reach the disk. No state changes, so this needs no flush."""
    store.objects.sync()
    batch = store.database.batch()
    store.objects.write_index(batch)
    store.database.write(batch)
    store.database.sync()
