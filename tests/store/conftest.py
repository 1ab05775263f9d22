"""A store for a test, and a second look at it after the test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from heliosfs.store.store import Store

# How fast a machine is says nothing about what these tests ask.
settings.register_profile("store", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("store")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store of this test lies."""
    return tmp_path / "store"


@pytest.fixture
def opened(place: Path) -> Iterator[Callable[[], Store]]:
    """Opens the store, closing it first if it is open: without a flush, so as a killed process leaves it."""
    stores: list[Store] = []

    def reopen() -> Store:
        while stores:
            stores.pop().close()
        store = Store.open(place)
        stores.append(store)
        assert list(store.journal.replay()) == []
        return store

    yield reopen
    while stores:
        stores.pop().close()
