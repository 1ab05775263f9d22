"""A tree that begins empty: it is there with its root, or not at all."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from heliosfs.store.store import Store
from heliosfs.volume.volume import Volume
from tests.store.support import copy_live
from tests.volume.conftest import CALLER

MAKE: dict[str, Callable[[Volume], object]] = {
    "snapshot": lambda volume: volume.snapshot(volume.main, b"new", CALLER, empty=True, filling=1),
    "branch": lambda volume: volume.fork(volume.main, b"new", CALLER, empty=True),
}


@pytest.mark.parametrize("kind", MAKE)
def test_a_full_disk_or_a_kill_leaves_no_tree_without_a_root(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    journal = volume.engine.journal
    append, left, tries = journal.append, 0, 0

    def limited(record: int, header: bytes, data: bytes = b"") -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "no room")
        left -= 1
        return append(record, header, data)

    monkeypatch.setattr(journal, "append", limited)
    while True:
        left = tries
        try:
            MAKE[kind](volume)
            break
        except OSError:
            tries += 1
        copy = tmp_path / f"copy-{tries}"
        copy_live(volume.store.path, copy)
        again = Volume.open(Store.open(copy))
        for each in (volume, again):
            assert not each.main.snapshots and not each.main.children
        again.close()
    monkeypatch.undo()
    assert tries > 1
    made = {**volume.main.snapshots, **volume.main.children}[b"new"]
    assert volume.view_of(made).entries(volume.view_of(made).root) == []
    volume.flush()
    assert len(volume.registry.layers) == 2, "those of what failed are swept"
