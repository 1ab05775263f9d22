"""Background work under a load that never pauses."""

from collections.abc import Callable, Generator

import pytest

from heliosfs.base.errors import Corruption
from heliosfs.layers.layer import Layer
from heliosfs.layers.seal import seal
from heliosfs.merkle.tree import Tree
from heliosfs.store.store import Store
from heliosfs.volume import background
from heliosfs.volume import volume as volume_module
from heliosfs.volume.volume import Volume
from tests.volume.conftest import CALLER

FILES = 2000


def make_files(volume: Volume, first: int, count: int) -> None:
    view = volume.main.view
    for number in range(first, first + count):
        inode = view.make(view.root, b"%d" % number, 0o100644, CALLER)
        view.write(inode, 0, b"%d" % number)
        view.closed(inode)
        view.forget(inode)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LAYER_RECORDS_MAX", 300)
    monkeypatch.setattr(background, "UNSEALED_RECORDS_MAX", 900)
    monkeypatch.setattr(background, "SCAN_BYTES", 1)


def test_files_made_faster_than_they_are_cut_do_not_pile_up(volume: Volume, small_limits: None) -> None:
    """Work is done only for as long as the loop gives it: where the pressure is above 1."""
    most = 0.0
    for number in range(0, FILES, 10):
        make_files(volume, number, 10)
        volume.step()
        while volume.dirty() and volume.pressure() >= 1:
            volume.step()
        most = max(most, volume.pressure())
    assert most < 2
    assert volume.background.seals > 5
    assert len(volume.engine.closed) < FILES / 2, "those of sealed layers are not kept"
    view = volume.main.view
    for number in range(FILES):
        inode = view.lookup(view.root, b"%d" % number)
        assert inode is not None and bytes(view.read(inode, 0, 10)) == b"%d" % number


def test_many_states_in_a_row_wait_for_those_before(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "UNSEALED_LAYERS_MAX", 20)
    view = volume.main.view
    inode = view.make(view.root, b"file", 0o100644, CALLER)
    for number in range(100):
        view.write(inode, 0, b"%03d" % number)
        volume.snapshot(volume.main, b"%d" % number, CALLER)
        while volume.dirty() and volume.pressure() >= 1:
            volume.step()
        assert len(volume.registry.unsealed) <= 20
    assert volume.background.seals >= 80
    for number in range(100):
        kept = volume.view_of(volume.main.snapshots[b"%d" % number])
        assert bytes(kept.read(kept.inode(inode.ino), 0, 3)) == b"%03d" % number


def test_there_is_no_pressure_without_a_backlog(volume: Volume) -> None:
    make_files(volume, 0, 10)
    assert volume.pressure() < 0.01
    while volume.dirty():
        volume.step()
    assert volume.pressure() < 0.01


def test_a_journal_that_is_cut_shrinks_soon(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is large requests wait for the cutter, which may have nothing left to do."""
    monkeypatch.setattr(background, "UNCUT_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(volume_module, "UNCUT_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(volume_module, "FLUSH_JOURNAL_BYTES_MIN", 1)
    volume.store.journal._segment_bytes, volume.store.journal._limit = 1 << 19, 0
    view = volume.main.view
    for number in range(30):
        inode = view.make(view.root, b"%d" % number, 0o100644, CALLER)
        view.write(inode, 0, number.to_bytes(4, "big") * (25 << 10))
        view.closed(inode)
    assert volume.pressure() > 1
    while volume.dirty():
        volume.step()
    assert volume.flush_due()
    volume.flush()
    assert volume.pressure() < 1


def test_checkpoints_are_flushed_though_all_of_them_are_sealed(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_module, "FLUSH_JOURNAL_BYTES_MIN", 1)
    monkeypatch.setattr(volume_module, "FLUSH_RECORDS_MAX", 100)
    view = volume.main.view
    inode = view.make(view.root, b"file", 0o100644, CALLER)
    volume.flush()
    for number in range(40):
        view.write(inode, 0, b"%02d" % number)
        volume.snapshot(volume.main, b"%d" % number, CALLER)
        while volume.dirty():
            volume.step()
    assert volume.flush_due()
    volume.flush()
    assert not volume.flush_due()


@pytest.mark.parametrize("closed", [True, False])
def test_all_that_was_written_can_be_cut_at_once(volume: Volume, closed: bool) -> None:
    """Whatever it belongs to: the journal is empty after the next flush."""
    view = volume.main.view
    for number in range(10):
        inode = view.make(view.root, b"%d" % number, 0o100644, CALLER)
        view.write(inode, 0, number.to_bytes(4, "big") * (100 << 10))
        if closed:
            view.closed(inode)
        if number == 4:
            volume.snapshot(volume.main, b"s", CALLER)
    steps = 0
    while volume.background.cut_step():
        steps += 1
    assert 5 <= steps <= 30
    assert not any(layer.uncut for layer in volume.registry.layers.values())
    volume.flush()
    assert volume.engine.journal.size() < 1000
    for number in range(10):
        inode = view.lookup(view.root, b"%d" % number)
        assert inode is not None and bytes(view.read(inode, 0, 500 << 10)) == number.to_bytes(4, "big") * (100 << 10)


def test_isolated_pages_are_cut_many_at_a_time(volume: Volume) -> None:
    view = volume.main.view
    inode = view.make(view.root, b"file", 0o100644, CALLER)
    pages = list(range(1, 2000, 2))
    for page in reversed(pages):
        view.write(inode, page * 4096, page.to_bytes(4, "big") * 1024)
    view.closed(inode)
    steps = 0
    while volume.dirty():
        volume.step()
        steps += 1
    assert steps < len(pages) / 8
    for page in pages:
        assert bytes(view.read(inode, page * 4096 - 1, 4096 + 1)) == b"\0" + page.to_bytes(4, "big") * 1024


def test_a_new_segment_of_the_journal_is_no_reason_to_flush(volume: Volume) -> None:
    view = volume.main.view
    inode = view.make(view.root, b"file", 0o100644, CALLER)
    segments = volume.store.journal.segments

    def write(megabytes: int) -> None:
        for number in range(megabytes):
            view.write(inode, number << 20, bytes(1 << 20))

    write(1)
    volume.flush()
    before = segments()[-1]
    write(15)
    assert segments()[-1] > before
    assert not volume.flush_due()
    write(12)
    assert volume.flush_due()


def test_a_layer_that_cannot_be_sealed_keeps_nothing_else_from_it(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, reopen: Callable[[Volume], Volume]
) -> None:
    """A node of the tree below it is damaged, say. Nor does it keep the volume from being closed in order."""
    main = volume.main
    branch = volume.fork(main, b"branch", CALLER)
    while volume.dirty():
        volume.step()
    states = []
    for each in (main, branch):
        view = each.view
        view.write(view.make(view.root, b"file", 0o100644, CALLER), 0, each.name)
        states.append(volume.snapshot(each, b"s", CALLER).state)
    bad, good = states

    def damaged(tree: Tree, layer: Layer) -> Generator[None, None, bytes]:
        if layer is bad:
            raise Corruption("node", "this test")
        return (yield from seal(tree, layer))

    monkeypatch.setattr(background, "seal", damaged)
    failures = 0
    while volume.dirty():
        try:
            volume.step()
        except Corruption:
            failures += 1
    assert failures == 1 and good.root and not bad.root and not bad.uncut
    volume = reopen(volume)
    for each in (volume.main, volume.main.children[b"branch"]):
        view = volume.view_of(each.snapshots[b"s"])
        assert bytes(view.read(view.resolve(b"file"), 0, 10)) == each.name
    volume.close()


def test_damage_met_in_closing_leaves_all_in_the_journal(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    view = volume.main.view
    view.make(view.root, b"file", 0o100644, CALLER)
    volume.snapshot(volume.main, b"s", CALLER)

    def damaged(tree: Tree, layer: Layer) -> Generator[None, None, bytes]:
        raise Corruption("node", "this test")
        yield

    monkeypatch.setattr(background, "seal", damaged)
    synced: list[bool] = []
    sync = volume.store.journal.sync
    monkeypatch.setattr(volume.store.journal, "sync", lambda: (sync(), synced.append(True)))
    flushes = volume.flushes
    volume.close()
    assert synced and volume.flushes > flushes
    again = Volume.open(Store.open(volume.store.path))
    assert again.main.view.resolve(b"file")
    again.close()
