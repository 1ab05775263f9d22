"""Collection: whatever is reachable stays readable, what is not goes."""

import random
from collections.abc import Callable

import pytest

from heliosfs.base.errors import Refusal
from heliosfs.view.view import View
from heliosfs.volume.collection import Report
from heliosfs.volume.volume import Volume
from tests.volume.conftest import CALLER


def settle(volume: Volume) -> None:
    while volume.dirty():
        volume.step()
    volume.flush()


def collect(volume: Volume, dry_run: bool = False) -> Report:
    steps = volume.collect(dry_run=dry_run)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            volume.flush()
            volume.flush()
            return end.value  # type: ignore[no-any-return]


def packed(volume: Volume) -> int:
    return sum(file.stat().st_size for file in (volume.store.path / "packs").iterdir())


def fill(view: View, name: bytes, seed: int, length: int = 200_000) -> bytes:
    data = random.Random(seed).randbytes(length)
    inode = view.make(view.root, name, 0o100644, CALLER)
    view.write(inode, 0, data)
    view.closed(inode)
    return data


def content(view: View, name: bytes) -> bytes:
    inode = view.lookup(view.root, name)
    assert inode is not None
    return bytes(view.read(inode, 0, inode.size))


def forget_operations(volume: Volume) -> None:
    """Let the operation log end here, as it does after very many operations."""
    volume.registry.log.clear()
    volume.registry.sweep_due = True


def test_what_is_deleted_goes_and_the_rest_stays(volume: Volume, reopen: Callable[[Volume], Volume]) -> None:
    view = volume.main.view
    kept = fill(view, b"kept", 1)
    fill(view, b"deleted", 2, 3_000_000)
    snapped = fill(view, b"snapped", 3)
    settle(volume)
    volume.snapshot(volume.main, b"s", CALLER)
    view.unlink(view.root, b"snapped")
    view.unlink(view.root, b"deleted")
    branch = volume.fork(volume.main, b"b", CALLER)
    forked = fill(branch.view, b"forked", 4)
    settle(volume)
    before = packed(volume)
    volume.drop_snapshot(volume.main, b"s", CALLER)
    volume.undo(volume.main, CALLER)
    assert collect(volume).dead_bytes < 100_000, "the snapshot has the deleted file"
    volume.drop_snapshot(volume.main, b"s", CALLER)
    assert collect(volume).dead_bytes < 100_000, "undo could bring the snapshot back"
    volume.undo(volume.main, CALLER)
    snapshot_view = volume.view_of(volume.main.snapshots[b"s"])
    assert content(snapshot_view, b"snapped") == snapped
    volume.drop_snapshot(volume.main, b"s", CALLER)
    volume.release_view(snapshot_view)
    forget_operations(volume)
    settle(volume)
    dry = collect(volume, dry_run=True)
    assert dry.dead_bytes > 3_000_000
    assert packed(volume) >= before
    assert collect(volume).dead_objects >= dry.dead_objects
    assert packed(volume) < before - 2_500_000
    assert content(view, b"kept") == kept
    assert content(branch.view, b"forked") == forked
    again = reopen(volume)
    assert content(again.main.view, b"kept") == kept
    assert content(again.main.children[b"b"].view, b"forked") == forked
    again.close()


def test_traffic_during_a_collection_is_safe(volume: Volume) -> None:
    """Between any two steps files are written, some with content that was dead when marking began."""
    view = volume.main.view
    chance = random.Random(5)
    written: dict[bytes, bytes] = {}
    for number in range(20):
        fill(view, b"old%d" % number, number)
    settle(volume)
    for number in range(20):
        view.unlink(view.root, b"old%d" % number)
    settle(volume)
    forget_operations(volume)
    steps = volume.collect()
    for number, _ in enumerate(steps, start=1):
        if number % 3 == 0 and number < 150:
            name = b"new%d" % number
            written[name] = fill(view, name, chance.randrange(40))
        if chance.random() < 0.3 and volume.dirty():
            volume.step()
        if number % 20 == 0:
            volume.flush()
    settle(volume)
    settle(volume)
    assert written
    for name, data in written.items():
        assert content(view, name) == data
    for digest, _, _ in list(volume.engine.objects.iterate()):
        volume.engine.objects.verify(digest)


def test_an_unlinked_open_file_keeps_its_content(volume: Volume) -> None:
    view = volume.main.view
    data = fill(view, b"open", 1)
    settle(volume)
    inode = view.lookup(view.root, b"open")
    assert inode is not None
    inode.opens = 1
    view.unlink(view.root, b"open")
    settle(volume)
    forget_operations(volume)
    collect(volume)
    assert bytes(view.read(inode, 0, inode.size)) == data
    inode.opens = 0
    view.forget(inode)
    assert collect(volume).dead_bytes > 100_000


def test_only_one_at_a_time(volume: Volume) -> None:
    steps = volume.collect()
    next(steps)
    with pytest.raises(Refusal, match="going on already"):
        next(volume.collect())
    steps.close()
    collect(volume)


def test_abandoned_in_the_middle_it_does_no_harm(volume: Volume) -> None:
    view = volume.main.view
    kept = {b"f%d" % number: fill(view, b"f%d" % number, number) for number in range(10)}
    settle(volume)
    for number in range(0, 10, 2):
        view.unlink(view.root, b"f%d" % number)
        del kept[b"f%d" % number]
    settle(volume)
    forget_operations(volume)
    for stop in range(1, 60, 7):
        steps = volume.collect()
        for _, _ in zip(range(stop), steps, strict=False):
            pass
        steps.close()
        volume.flush()
        for name, data in kept.items():
            assert content(view, name) == data
