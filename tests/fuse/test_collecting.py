"""Collections of a mounted volume: when they begin by themselves, give way, stop, and what their failure leaves."""

import errno
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from heliosfs.base.errors import Corruption, Refusal
from heliosfs.fuse import collecting
from heliosfs.fuse.collecting import Collecting
from heliosfs.fuse.errors import Faults
from heliosfs.fuse.flushing import Flusher
from heliosfs.store import objects
from heliosfs.store.store import Store
from heliosfs.view.inode import Caller
from heliosfs.volume import upkeep
from heliosfs.volume.volume import Volume

CALLER = Caller(1000, 1000, 1, b"test")


class Served:
    """What a mount has around a volume, without a kernel."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.requests = 0
        self.faults = Faults()
        self.flusher = Flusher(volume, self.faults)
        self.collecting = Collecting(volume, self.flusher, self.faults, lambda: self.requests, self.forgotten)

    async def forgotten(self) -> None:
        """There is no kernel."""

    def fill(self, name: bytes, length: int = 300_000) -> None:
        view = self.volume.main.view
        inode = view.make(view.root, name, 0o100644, CALLER)
        view.write(inode, 0, random.Random(name).randbytes(length))
        view.closed(inode)
        while self.volume.dirty():
            self.volume.step()
        self.volume.flush()

    def packed(self) -> int:
        return self.volume.engine.objects.packed_bytes()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    volume = Volume.open(Store.open(tmp_path / "store"))
    yield Served(volume)
    volume.close()


def in_time(function: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(300):
            await function()

    trio.run(bounded)


@pytest.mark.parametrize("most", [1, 10_000])
def test_it_collects_and_flushes(served: Served, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(objects, "CONDEMNED_MAX", most)
    served.fill(b"kept")
    served.fill(b"gone", 2_000_000)
    served.volume.main.view.unlink(served.volume.main.view.root, b"gone")

    async def body() -> None:
        dry = await served.collecting.run(served.collecting.begin(), dry_run=True)
        assert dry["dead_bytes"] > 1_900_000 and dry["freed_bytes"] == 0 and served.packed() > 2_000_000
        found = await served.collecting.run(served.collecting.begin())
        assert found["dead_bytes"] > 1_900_000 and found["freed_bytes"] > 1_900_000
        assert served.packed() < 400_000
        assert served.collecting.status() == {"running": False, "last": found}

    in_time(body)


def test_it_begins_by_itself_when_that_pays_and_then_rests(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "DROPPED_BYTES_MIN", 1 << 20)
    monkeypatch.setattr(collecting, "LOOK_SECONDS", 0)
    served.fill(b"gone", 2_000_000)
    assert not served.collecting.due()
    served.volume.main.view.unlink(served.volume.main.view.root, b"gone")
    assert served.collecting.due()
    in_time(served.collecting.run_by_itself)
    assert served.packed() < 10_000
    served.fill(b"again", 2_000_000)
    served.volume.main.view.unlink(served.volume.main.view.root, b"again")
    assert served.volume.upkeep.pays() and not served.collecting.due(), "it rests"
    monkeypatch.setattr(collecting.time, "monotonic", lambda: served.collecting._rest_until)
    assert served.collecting.due()


def test_on_a_full_disk_it_is_looked_for_more_often(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.fill(b"gone", 2_000_000)
    moment = 1000.0
    monkeypatch.setattr(collecting.time, "monotonic", lambda: moment)
    assert not served.collecting.due()
    served.volume.main.view.unlink(served.volume.main.view.root, b"gone")
    monkeypatch.setattr(served.volume.store, "is_short_of_space", lambda: True)
    moment += 1
    assert not served.collecting.due(), "it was looked a second ago"
    monkeypatch.setattr(served.volume.store, "is_full", lambda: True)
    assert served.collecting.due()


def test_people_come_first(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "SLICE_SECONDS", 0)
    served.fill(b"gone", 2_000_000)
    served.volume.main.view.unlink(served.volume.main.view.root, b"gone")

    async def body() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.collecting.run_by_itself)
            while not served.collecting.running:
                await trio.lowlevel.checkpoint()
            assert served.collecting.status()["automatic"] is True
            await served.collecting.make_way()
            rounds = served.collecting.begin()
            with pytest.raises(Refusal) as refused:
                await served.collecting.make_way()
            assert refused.value.errno == errno.EBUSY
            found = await served.collecting.run(rounds)
            assert found["dead_bytes"] > 1_900_000
        assert served.collecting.failures == 0

    in_time(body)


def test_stopped_in_the_middle(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "SLICE_SECONDS", 0)
    for number in range(30):
        served.fill(b"f%d" % number, 20_000)

    async def body() -> None:
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                with pytest.raises(Refusal, match="stopped"):
                    await served.collecting.run(served.collecting.begin())

            nursery.start_soon(run)
            while not served.collecting.running:
                await trio.lowlevel.checkpoint()
            served.collecting.stop()
        assert served.collecting.stopped and not served.collecting.running
        await served.collecting.run(served.collecting.begin())

    in_time(body)


def test_a_cancelled_mount_ends_it(served: Served) -> None:
    served.fill(b"file", 2_000_000)

    async def body() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await served.collecting.run(served.collecting.begin())
        assert not served.collecting.running
        await served.collecting.run(served.collecting.begin())

    in_time(body)


def test_damage_stops_it_before_anything_goes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.fill(b"gone", 2_000_000)
    served.volume.main.view.unlink(served.volume.main.view.root, b"gone")

    def damaged(digest: bytes) -> bytes:
        raise Corruption("object", "here", digest)

    async def body() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(served.volume.engine.tree.nodes, "peek", damaged)
            with pytest.raises(Refusal, match="Nothing was removed") as refused:
                await served.collecting.run(served.collecting.begin())
            assert refused.value.errno == errno.EIO
            assert "damaged object" in served.collecting.status()["last"]["error"]
            await served.collecting.run_by_itself()
            assert served.collecting.failures == 1 and served.faults.corruptions == 1
        assert served.packed() > 2_000_000
        await served.collecting.run(served.collecting.begin())
        assert served.packed() < 10_000

    in_time(body)


def test_slices_are_a_small_share_of_the_time_while_requests_come(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.fill(b"file")
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        served.requests += len(pauses) % 2
        await trio.lowlevel.checkpoint()

    clock = 0.0

    def steps() -> Iterator[None]:
        nonlocal clock
        for step in (0.5, 0.5, 0.5, 0.5, 4.0, 4.0, 1.0):
            clock += step * collecting.SLICE_SECONDS
            yield

    async def body() -> None:
        monkeypatch.setattr(collecting.trio, "sleep", sleep)
        monkeypatch.setattr(collecting.time, "perf_counter", lambda: clock)
        await served.collecting._drive(steps())  # type: ignore[arg-type]

    in_time(body)
    busy = [length * collecting.SLICE_SECONDS * collecting.BUSY_PAUSES for length in (1.0, 4.0)]
    assert pauses == pytest.approx([0, busy[0], 0, busy[1], 0])
