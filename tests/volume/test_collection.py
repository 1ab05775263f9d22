"""Collection: whatever is reachable stays readable, what is not goes."""

import os
import random
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.store import database, objects
from heliosfs.store.store import Store
from heliosfs.view.view import View
from heliosfs.volume import operations, upkeep
from heliosfs.volume.collection import Report
from heliosfs.volume.volume import Volume
from tests.store.support import copy_live, journal_sizes
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


def test_a_dropped_branch_at_which_nobody_looked_keeps_nothing(volume: Volume) -> None:
    main = volume.main
    fill(main.view, b"file", 1)
    branch = volume.fork(main, b"branch", CALLER)
    main.view.unlink(main.view.root, b"file")
    volume.drop_branch(main, b"branch", CALLER)
    assert branch.view not in volume.views.values()
    forget_operations(volume)
    settle(volume)
    collect(volume)
    assert packed(volume) < 10_000


def test_one_in_which_somebody_is_keeps_what_they_have(volume: Volume) -> None:
    main = volume.main
    branch = volume.fork(main, b"branch", CALLER)
    data = fill(branch.view, b"file", 1)
    inode = branch.view.lookup(branch.view.root, b"file")
    assert inode is not None
    inode.opens += 1
    volume.drop_branch(main, b"branch", CALLER)
    forget_operations(volume)
    settle(volume)
    collect(volume)
    assert volume.views[branch.view.number] is branch.view
    assert bytes(branch.view.read(inode, 0, inode.size)) == data


def test_all_that_is_dead_goes_however_many_flushes_it_takes(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "CONDEMNED_MAX", 3)
    view = volume.main.view
    for number in range(10):
        fill(view, b"%d" % number, number)
    settle(volume)
    for number in range(10):
        view.unlink(view.root, b"%d" % number)
    flushes = volume.flushes
    volume.collect_blocking(keep_undo_seconds=0, step=lambda report: None)
    assert volume.flushes > flushes + 3 and volume.engine.objects.condemned == 0
    assert packed(volume) < 10_000


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


def finish(steps: Generator[None, None, object]) -> None:
    for _ in steps:
        pass


def collect_during_a_flush(volume: Volume, names: list[bytes], copy: Path) -> dict[str, int]:
    """The journal is synced with files in it; they go and are collected; the flush ends. A copy of the store as it is
    then, and how long the files of the journal were when it was synced."""
    settle(volume)
    volume.registry.let_go_before(now())
    flush = volume.begin_flush()
    flush.sync()
    sizes = journal_sizes(volume.store.journal)
    for name in names:
        volume.main.view.unlink(volume.main.view.root, name)
    while volume.dirty():
        volume.step()
    finish(volume.collect())
    flush.index()
    flush.write()
    copy_live(volume.store.path, copy)
    volume.end_flush(flush)
    return sizes


def test_what_dies_during_a_flush_outlives_a_power_cut(volume: Volume, tmp_path: Path) -> None:
    data = fill(volume.main.view, b"file", 1)
    for name, size in collect_during_a_flush(volume, [b"file"], tmp_path / "cut").items():
        os.truncate(tmp_path / "cut" / "journal" / name, size)
    again = Volume.open(Store.open(tmp_path / "cut"))
    assert content(again.main.view, b"file") == data
    again.close()


def test_what_was_counted_wrongly_is_counted_anew(volume: Volume, tmp_path: Path) -> None:
    """A kill after a flush that had counted what died meanwhile, but could not remove it yet."""
    names = [b"%d" % number for number in range(5)]
    for number, name in enumerate(names):
        fill(volume.main.view, name, number)
    collect_during_a_flush(volume, names, tmp_path / "killed")
    again = Volume.open(Store.open(tmp_path / "killed"))
    objects = again.engine.objects
    assert objects.statistics.objects < len(list(objects.iterate()))
    again.collect_blocking(step=lambda report: None)
    found = list(objects.iterate())
    assert objects.statistics.objects == len(found)
    assert objects.statistics.raw_bytes == sum(location.raw_length for _, _, location in found)
    again.close()


def test_a_seal_under_way_loses_nothing(volume: Volume) -> None:
    """It has stored nodes that nothing refers to yet when marking begins."""
    view = volume.main.view
    names = [b"%04d" % number for number in range(3000)]
    for name in names:
        view.make(view.root, name, 0o100644, CALLER)
    volume.snapshot(volume.main, b"s", CALLER)
    steps = 0
    before = volume.engine.objects.statistics.objects
    while volume.engine.objects.statistics.objects < before + 3:
        volume.step()
        steps += 1
        assert steps < 10_000
    volume.flush()
    assert volume.registry.unsealed, "the seal is not at its end"
    finish(volume.collect())
    settle(volume)
    assert not [layer for layer in volume.registry.unsealed.values() if layer.deltas]
    assert [name for name, _, _ in volume.view_of(volume.main.snapshots[b"s"]).entries(view.root)] == names
    for digest, _, _ in list(volume.engine.objects.iterate()):
        volume.engine.objects.verify(digest)


def test_a_file_unlinked_while_marking_keeps_its_content_for_who_has_it_open(volume: Volume) -> None:
    view = volume.main.view
    data = fill(view, b"open", 1)
    inode = view.lookup(view.root, b"open")
    assert inode is not None
    while volume.dirty():
        volume.step()
    volume.flush()
    # Other layers are marked before the one with the file.
    below, top = volume.fork(volume.main, b"b", CALLER).view.top, volume.main.view.top
    volume.registry.layers = {below.id: below, **volume.registry.layers}
    inode.opens = 1
    steps = volume.collect()
    next(steps)
    view.unlink(view.root, b"open")
    assert top is volume.main.view.top
    finish(steps)
    volume.flush()
    assert bytes(view.read(inode, 0, inode.size)) == data
    inode.opens = 0
    view.forget(inode)


def test_the_log_is_bounded_by_count_and_its_states_by_age(
    volume: Volume, reopen: Callable[[Volume], Volume], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "RETAINED", 5)
    view = volume.main.view
    fill(view, b"big", 1, 3_000_000)
    settle(volume)
    volume.snapshot(volume.main, b"s", CALLER)
    view.unlink(view.root, b"big")
    volume.drop_snapshot(volume.main, b"s", CALLER)
    settle(volume)
    assert collect(volume).dead_bytes < 100_000
    for number in range(5):
        volume.snapshot(volume.main, b"n%d" % number, CALLER)
    assert [each.number for each in volume.log()] == [4, 5, 6, 7, 8]
    volume = reopen(volume)
    assert [each.number for each in volume.log()] == [4, 5, 6, 7, 8]
    assert len(list(volume.store.database.scan(database.OPERATIONS))) == 5
    assert collect(volume).dead_bytes > 2_900_000
    fill(volume.main.view, b"big", 2, 3_000_000)
    settle(volume)
    volume.snapshot(volume.main, b"t", CALLER)
    volume.main.view.unlink(volume.main.view.root, b"big")
    volume.drop_snapshot(volume.main, b"t", CALLER)
    dropped = volume.log()[-1]
    monkeypatch.setattr(operations, "RETAINED_SECONDS", 0)
    volume.upkeep.expire()
    assert collect(volume).dead_bytes > 2_900_000
    assert dropped in volume.log(), "the log goes on telling of it"
    with pytest.raises(Refusal, match="has been collected"):
        volume.undo(volume.main, CALLER)
    assert check(volume) == []
    volume.close()


def check(volume: Volume) -> list[str]:
    return operations.verify(volume.log(), volume.log()[0].previous)


def test_when_a_collection_pays(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "DROPPED_BYTES_MIN", 1 << 20)
    monkeypatch.setattr(upkeep, "GROWN_BYTES_MIN", 4 << 20)
    view, pays = volume.main.view, volume.upkeep.pays
    fill(view, b"a", 1, 2_000_000)
    settle(volume)
    assert not pays(), "nothing was dropped"
    inode = view.make(view.root, b"temporary", 0o100644, CALLER)
    view.write(inode, 0, bytes(3_000_000))
    view.unlink(view.root, b"temporary")
    assert not pays(), "what was never cut leaves nothing behind"
    view.unlink(view.root, b"a")
    assert pays()
    collect(volume)
    assert not pays()
    fill(view, b"b", 2, 2_000_000)
    settle(volume)
    found = view.lookup(view.root, b"b")
    assert found is not None
    view.write(found, 0, bytes(1_500_000))
    assert pays(), "overwritten"
    collect(volume)
    assert not pays()
    settle(volume)
    view.set_attributes(found, size=0)
    assert pays(), "truncated"
    collect(volume)
    fill(view, b"c", 3, 5_000_000)
    settle(volume)
    assert pays(), "the store has doubled"
    collect(volume)
    volume.snapshot(volume.main, b"s", CALLER)
    volume.drop_snapshot(volume.main, b"s", CALLER)
    assert not pays()
    volume.registry.let_go_before(now() + 1)
    assert pays(), "nothing keeps a dropped state any more"
    collect(volume)
    assert not pays()


def test_what_was_dropped_is_remembered_across_a_restart(
    volume: Volume, reopen: Callable[[Volume], Volume]
) -> None:
    fill(volume.main.view, b"a", 1)
    settle(volume)
    volume.main.view.unlink(volume.main.view.root, b"a")
    assert volume.engine.dropped_bytes == 200_000
    volume = reopen(volume)
    assert volume.engine.dropped_bytes == 200_000
    collect(volume)
    stored = volume.registry.collected_bytes
    volume = reopen(volume)
    assert (volume.engine.dropped_bytes, volume.registry.collected_bytes) == (0, stored)
    volume.close()


def test_when_all_is_deleted_nothing_is_left(volume: Volume) -> None:
    """The tree below the branch's present layer does not keep it."""
    view = volume.main.view
    for number in range(10):
        fill(view, b"f%d" % number, number)
    settle(volume)
    assert packed(volume) > 2_000_000
    for number in range(10):
        view.unlink(view.root, b"f%d" % number)
    volume.collect_blocking(step=lambda report: None)
    assert packed(volume) < 10_000


def test_killed_between_the_phases_of_the_flush(volume: Volume, tmp_path: Path) -> None:
    view = volume.main.view
    kept = {b"f%d" % number: fill(view, b"f%d" % number, number) for number in range(10)}
    settle(volume)
    for number in range(0, 10, 2):
        view.unlink(view.root, b"f%d" % number)
        del kept[b"f%d" % number]
    settle(volume)
    finish(volume.collect())
    flush = volume.begin_flush()
    for phase, act in enumerate((lambda: None, flush.sync, flush.index, flush.write, lambda: volume.end_flush(flush))):
        act()
        copy_live(volume.store.path, tmp_path / str(phase))
        again = Volume.open(Store.open(tmp_path / str(phase)))
        assert {name: content(again.main.view, name) for name in kept} == kept
        assert collect(again).dead_objects == 0 or phase < 3, "what was collected does not come back"
        assert {name: content(again.main.view, name) for name in kept} == kept
        again.close()
