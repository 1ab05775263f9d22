"""The same work with nothing beside it, while layers are sealed, and while a collection runs: what work in the
background, which has a small share of the time while requests come, costs those who wait for an answer.
"""

from __future__ import annotations

import os
from typing import Final

from benchmarks.places import Helios
from benchmarks.scale import PER_DIRECTORY, each_of, stat_and_read, volume_of
from benchmarks.works import Sample, Site, Work

FILES: Final = 50_000
TOUCHED: Final = 20_000
"""Files that the work touches, for a second: what runs beside it is not done before."""
LAYERS: Final = 100
CHANGED: Final = 400
"""Files changed in each of them. All together take seconds to seal."""


def _volume(site: Site) -> Helios:
    return volume_of(site, FILES)


def _paths(site: Site, count: int) -> list[str]:
    top = _volume(site).directory
    return [f"{top}/{number // PER_DIRECTORY}/{number}" for number in range(count)]


def _touch(path: str) -> None:
    """Requests that leave nothing to cut."""
    stat_and_read(path)
    os.utime(path, (0, 0))


def alone(site: Site) -> Sample:
    """With nothing beside it."""
    return each_of(_touch, _paths(site, TOUCHED))


def _prepare(site: Site) -> None:
    """All is warm, and nothing is left to do."""
    each_of(_touch, _paths(site, FILES))
    _volume(site).settle()


def _prepare_sealing(site: Site) -> None:
    _prepare(site)
    paths = _paths(site, LAYERS * CHANGED)
    for layer in range(LAYERS):
        for path in paths[layer * CHANGED :][:CHANGED]:
            os.chmod(path, 0o600 + site.seed % 2)
        os.mkdir(_volume(site).directory / ".snapshots" / f"{site.seed}-{layer}")


def beside_sealing(site: Site) -> Sample:
    """While the layers of many snapshots are sealed."""
    sample = alone(site)
    if not _volume(site).call("stats")["unsealed_layers"]:
        raise RuntimeError("all was sealed before the work was done")
    return sample


def _prepare_collecting(site: Site) -> None:
    """What the preparation has left is flushed with a collection before."""
    _prepare(site)
    _volume(site).call("gc")
    _volume(site).call("gc", wait=False)


def beside_collecting(site: Site) -> Sample:
    """While a collection runs, which is stopped then: nothing else is to run beside it."""
    sample = alone(site)
    if not _volume(site).call("gc.stop")["running"]:
        raise RuntimeError("the collection ended before the work was done")
    return sample


_ALONE: Final = Work("touch", alone, _prepare, checkpoint=True, where=_volume)

BACKGROUND: Final = (
    _ALONE,
    _ALONE._replace(name="touch, sealing", run=beside_sealing, prepare=_prepare_sealing, against=_ALONE.name),
    _ALONE._replace(name="touch, collecting", run=beside_collecting, prepare=_prepare_collecting, against=_ALONE.name),
)
