"""Volumes in a temporary directory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heliosfs.store.store import Store
from heliosfs.view.inode import Caller
from heliosfs.volume.volume import Volume

CALLER = Caller(1000, 1000, 1, b"test")


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """An empty volume."""
    volume = Volume.open(Store.open(tmp_path / "store"))
    yield volume
    if not volume.closed:
        volume.close()


@pytest.fixture
def reopen(tmp_path: Path) -> Callable[[Volume], Volume]:
    """Close a volume and open it again."""

    def reopen(volume: Volume) -> Volume:
        path = volume.store.path
        volume.close()
        return Volume.open(Store.open(path))

    return reopen
