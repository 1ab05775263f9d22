"""The same work with nothing beside it, while layers are sealed, and while a collection runs: what the daemon's work
in the background costs those who wait for an answer. That work waits for requests to pause, and has a tenth of the
time while they do not.
"""

from __future__ import annotations

import os
import time
from typing import Final

from benchmarks.checkpoints import volume_beside
from benchmarks.places import Helios
from benchmarks.scale import CONTENT, PER_DIRECTORY, make
from benchmarks.works import Sample, Site, Work

FILES: Final = 50_000
TOUCHED: Final = 20_000
"""Files that the work touches, for a second: what runs beside it is not done before."""
LAYERS: Final = 100
CHANGED: Final = 400
"""Files changed in each of them. All together take seconds to seal."""


def _volume(site: Site) -> Helios:
    return volume_beside(site, "background", _make)


def _make(volume: Helios) -> None:
    volume.unmount()
    make(volume.store, FILES)
    volume.reopen()


def _paths(volume: Helios, count: int) -> list[str]:
    return [f"{volume.directory}/{number // PER_DIRECTORY}/{number}" for number in range(count)]


def _touch(paths: list[str], seed: int) -> None:
    """Read each file and change its times: requests that leave nothing to cut."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.read(descriptor, len(CONTENT))
        os.close(descriptor)
        os.utime(path, (seed, seed))


def alone(site: Site) -> Sample:
    """With nothing beside it."""
    paths = _paths(_volume(site), TOUCHED)
    start = time.perf_counter()
    _touch(paths, site.seed)
    return Sample(time.perf_counter() - start, TOUCHED)


def _prepare(site: Site) -> None:
    """All is warm, and nothing is left to do."""
    volume = _volume(site)
    _touch(_paths(volume, FILES), 0)
    volume.settle()


def _prepare_sealing(site: Site) -> None:
    _prepare(site)
    volume = _volume(site)
    paths = _paths(volume, FILES)
    for layer in range(LAYERS):
        for path in paths[layer * CHANGED % FILES :][:CHANGED]:
            os.chmod(path, 0o600 + layer % 2)
        os.mkdir(volume.directory / ".snapshots" / f"{site.seed}-{layer}")


def beside_sealing(site: Site) -> Sample:
    """While the layers of many snapshots are sealed."""
    sample = alone(site)
    if not _volume(site).call("stats")["unsealed_layers"]:
        raise RuntimeError("all was sealed before the work was done")
    return sample


def _prepare_collecting(site: Site) -> None:
    """What the touching of all has left is flushed with a collection before."""
    _prepare(site)
    volume = _volume(site)
    volume.call("gc")
    volume.call("gc", wait=False)


def beside_collecting(site: Site) -> Sample:
    """While a collection runs."""
    sample = alone(site)
    if not _volume(site).call("gc.status")["running"]:
        raise RuntimeError("the collection ended before the work was done")
    return sample


_ALONE: Final = Work("read and touch", alone, _prepare, checkpoint=True)

BACKGROUND: Final = (
    _ALONE,
    Work("the same, sealing", beside_sealing, _prepare_sealing, checkpoint=True, against=_ALONE.name),
    Work("the same, collecting", beside_collecting, _prepare_collecting, checkpoint=True, against=_ALONE.name),
)
