"""Flushes beside requests: what takes long is done in another thread."""

import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from heliosfs.fuse.errors import Faults
from heliosfs.fuse.flushing import Flusher
from heliosfs.store.store import Store
from heliosfs.view.inode import Caller
from heliosfs.volume.volume import Volume

CALLER = Caller(1000, 1000, 1, b"test")


def test_no_request_waits_for_files_that_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To delete a segment or a pack takes some milliseconds, and there may be hundreds of them."""
    volume = Volume.open(Store.open(tmp_path / "store"))
    view = volume.main.view
    for number in range(2):
        inode = view.make(view.root, b"%d" % number, 0o100644, CALLER)
        for offset in range(0, 20 << 20, 1 << 20):
            view.write(inode, offset, random.Random(offset + number).randbytes(1 << 20))
        view.closed(inode)
    while volume.dirty():
        volume.step()
    volume.flush()
    segments, packs = (sorted((tmp_path / "store" / name).iterdir()) for name in ("journal", "packs"))
    assert len(segments) == 1 and len(packs) > 1
    view.unlink(view.root, b"0")
    volume.registry.let_go_before(volume.main.record.created + (1 << 62))
    for _ in volume.collect():
        pass
    here: list[Path] = []
    close, unlink = os.close, os.unlink

    def unlinking(path: Any, **more: Any) -> None:
        if threading.current_thread() is threading.main_thread() and os.path.exists(path):
            here.append(path)
        unlink(path, **more)

    def closing(descriptor: int) -> None:
        if threading.current_thread() is threading.main_thread() and not os.fstat(descriptor).st_nlink:
            here.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        close(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlinking)
        patch.setattr(os, "close", closing)
        trio.run(Flusher(volume, Faults()).flush)
    assert not here
    assert not packs[0].exists() and volume.engine.objects.packed_bytes() < 30 << 20
    volume.close()
