"""Flushes that fail: the next one does all of it."""

import errno

import pytest

from heliosfs.store import database
from heliosfs.volume.volume import Volume
from tests.volume.conftest import CALLER


def test_a_database_that_cannot_be_written_yet_is_tried_again(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume.main.view.make(volume.main.view.root, b"file", 0o100644, CALLER)
    flushes = volume.flushes
    volume.store.database._failure = OSError(errno.ENOSPC, "a write failed")
    with monkeypatch.context() as patch:
        patch.setattr(database, "free_bytes", lambda path: 0)
        for _ in range(2):
            with pytest.raises(OSError) as caught:
                volume.flush()
            assert caught.value.errno == errno.ENOSPC
    volume.flush()
    assert volume.flushes == flushes + 1
