"""The collector: the dead go, the living stay readable at every moment, also across a crash at any step."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from heliosfs.base.digests import digest
from heliosfs.base.errors import Corruption
from heliosfs.store import collector, objects, packs
from heliosfs.store.objects import CHUNK
from heliosfs.store.packs import HEADER_BYTES
from heliosfs.store.store import Store
from tests.store.support import exhaust, flip, flush, full_disk

Opened = Callable[[], Store]


def content(n: int) -> bytes:
    """Bytes that do not compress, so that sizes can be told."""
    return b"".join(digest(b"%d %d" % (n, part)) for part in range(20))


def used(place: Path) -> int:
    return sum(path.stat().st_size for path in (place / "packs").iterdir())


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten objects to a pack."""
    monkeypatch.setattr(packs, "PACK_BYTES", 10 * (640 + HEADER_BYTES))
    monkeypatch.setattr(packs.Packs.__init__, "__kwdefaults__", {"pack_bytes": packs.PACK_BYTES, "read_only": False})


def test_the_dead_go_and_the_disk_gets_their_space(opened: Opened, place: Path, small_packs: None) -> None:
    store = opened()
    names = [store.objects.put(content(n), CHUNK) for n in range(100)]
    flush(store)
    before = used(place)
    live = {name for n, name in enumerate(names) if n < 20 or n % 10 == 0}
    exhaust(store.objects.collect(live.__contains__))
    assert used(place) >= before  # nothing goes before the flush that says so
    assert flush(store) > 0
    assert used(place) == len(live) * (640 + HEADER_BYTES)
    for n, name in enumerate(names):
        assert (name in store.objects) == (name in live)
        if name in live:
            assert store.objects.load(name) == content(n)
    assert store.objects.statistics.objects == len(live)
    assert store.objects.statistics.stored_bytes == used(place)
    store = opened()
    assert {name for name, _, _ in store.objects.iterate()} == live
    assert store.objects.forgotten == 0
    assert store.objects.statistics.objects == len(live)


def test_packs_that_are_mostly_alive_stay_as_they_are(opened: Opened, place: Path, small_packs: None) -> None:
    store = opened()
    names = [store.objects.put(content(n), CHUNK) for n in range(30)]
    flush(store)
    before = {path.name: path.read_bytes() for path in (place / "packs").iterdir()}
    exhaust(store.objects.collect(lambda name: names.index(name) % 10 != 0))
    flush(store)
    assert {path.name: path.read_bytes() for path in (place / "packs").iterdir()} == before
    assert [name in store.objects for name in names[:3]] == [False, True, True]
    assert store.objects.statistics.objects == 27


def test_when_all_is_dead_nothing_is_left(opened: Opened, place: Path) -> None:
    store = opened()
    for n in range(10):
        store.objects.put(content(n), CHUNK)
    flush(store)
    exhaust(store.objects.collect(lambda name: False))
    flush(store)
    assert used(place) == 0 and store.objects.statistics.objects == 0
    name = store.objects.put(content(1), CHUNK)
    flush(store)
    store = opened()
    assert store.objects.get(name) == content(1)


def test_what_was_put_since_protect_lives_though_the_mark_missed_it(opened: Opened) -> None:
    store = opened()
    old = store.objects.put(content(1), CHUNK)
    dead = store.objects.put(content(2), CHUNK)
    flush(store)
    store.objects.protect()
    assert store.objects.put(content(1), CHUNK) == old  # known already, and used again
    new = store.objects.put(content(3), CHUNK)
    flush(store)
    exhaust(store.objects.collect(lambda name: False))
    flush(store)
    assert old in store.objects and new in store.objects and dead not in store.objects
    exhaust(store.objects.collect(lambda name: False))  # the protection was for one collection
    flush(store)
    assert old not in store.objects


def test_a_condemned_object_that_is_put_again_is_written_again(opened: Opened) -> None:
    store = opened()
    name = store.objects.put(content(1), CHUNK)
    flush(store)
    exhaust(store.objects.collect(lambda name: False))
    assert name not in store.objects
    store.objects.put(content(1), CHUNK)
    assert store.objects.load(name) == content(1)
    flush(store)
    assert store.objects.load(name) == content(1)
    store = opened()
    assert store.objects.load(name) == content(1)
    assert store.objects.statistics.objects == 1


def test_one_that_is_condemned_and_put_again_while_a_flush_is_under_way_stays(opened: Opened) -> None:
    store = opened()
    name = store.objects.put(content(1), CHUNK)
    flush(store)
    dead = store.objects.dead()
    exhaust(store.objects.collect(lambda name: False))
    store.objects.put(content(1), CHUNK)
    store.objects.sync()
    batch = store.database.batch()
    store.objects.write_index(batch, dead)
    store.database.write(batch)
    store.objects.settle()
    assert name in store.objects and store.objects.load(name) == content(1)
    flush(store)
    assert store.objects.load(name) == content(1)
    store = opened()
    assert store.objects.load(name) == content(1)


def test_a_pack_with_a_damaged_live_object_stays(opened: Opened, place: Path) -> None:
    store = opened()
    names = [store.objects.put(content(n), CHUNK) for n in range(10)]
    flush(store)
    flip(place / "packs" / "0000000001", HEADER_BYTES + 3)
    exhaust(store.objects.collect(set(names[:3]).__contains__))
    flush(store)
    assert (place / "packs" / "0000000001").exists()
    with pytest.raises(Corruption):
        store.objects.load(names[0])
    assert store.objects.load(names[1]) == content(1) and store.objects.load(names[2]) == content(2)
    assert {name for name, _, _ in store.objects.iterate()} == set(names[:3])


def test_a_full_disk_ends_the_collection_and_loses_nothing(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    names = [store.objects.put(content(n), CHUNK) for n in range(20)]
    flush(store)
    live = set(names[:8])
    with full_disk(monkeypatch, 3 * 700), pytest.raises(OSError) as caught:
        exhaust(store.objects.collect(live.__contains__))
    assert caught.value.errno == errno.ENOSPC
    flush(store)
    assert all(store.objects.load(name) == content(n) for n, name in enumerate(names[:8]))
    exhaust(store.objects.collect(live.__contains__))
    flush(store)
    store = opened()
    assert all(store.objects.load(name) == content(n) for n, name in enumerate(names[:8]))


def test_steps_are_small(opened: Opened) -> None:
    store = opened()
    for n in range(3 * collector.STEP_ENTRIES):
        store.objects.put(b"%d" % n, CHUNK)
    big = [store.objects.put(os.urandom(collector.STEP_BYTES), CHUNK) for _ in range(4)]
    for _ in range(5):
        store.objects.put(os.urandom(collector.STEP_BYTES), CHUNK)
    flush(store)
    assert exhaust(store.objects.collect(set(big).__contains__)) >= 3 + 3 + len(big)


def test_only_what_lives_in_a_pack_is_looked_at_again(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead of a pack may be tens of thousands: to sort them takes far more than a step."""
    store = opened()
    names = [store.objects.put(content(n), CHUNK) for n in range(300)]
    flush(store)
    moved: list[bytes] = []
    move = store.objects.move
    monkeypatch.setattr(store.objects, "move", lambda name, place: (moved.append(name), move(name, place)))
    exhaust(store.objects.collect(set(names[::10]).__contains__))
    assert moved == names[::10]


def test_no_flush_removes_more_than_it_should(
    opened: Opened, place: Path, small_packs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "CONDEMNED_MAX", 30)
    store = opened()
    names = [store.objects.put(content(n), CHUNK) for n in range(100)]
    flush(store)
    live = set(names[::10])
    exhaust(store.objects.collect(live.__contains__))
    for left in (60, 30):
        assert flush(store) == 0, "the index names something in every pack"
        assert store.objects.condemned == left
        assert {name for name in names if name in store.objects} == live
    assert flush(store) > 0 and store.objects.condemned == 0
    assert used(place) == len(live) * (640 + HEADER_BYTES)
    store = opened()
    assert {name for name, _, _ in store.objects.iterate()} == live


def test_only_packs_the_batch_gave_up_can_be_removed(opened: Opened, place: Path, small_packs: None) -> None:
    store = opened()
    names = [store.objects.put(content(n), CHUNK) for n in range(20)]
    flush(store)
    exhaust(store.objects.collect(set(names[10:12]).__contains__))
    assert store.objects.removable_packs() == frozenset()
    batch = store.database.batch()
    store.objects.write_index(batch)  # without a sync of the packs: what was moved is not safe yet
    store.database.write(batch)
    removable = store.objects.removable_packs()
    assert 2 not in removable
    assert store.objects.remove_packs(frozenset({2, 99}) | removable) >= 0
    assert (place / "packs" / "0000000002").exists()
    assert all(store.objects.load(name) == content(n) for n, name in enumerate(names[10:12], start=10))
    assert flush(store) > 0
    assert not (place / "packs" / "0000000002").exists()
    assert all(store.objects.load(name) == content(n) for n, name in enumerate(names[10:12], start=10))


class Collecting(RuleBasedStateMachine):
    """Puts, flushes, collections step by step, kills and damage, against a dict of what must be readable."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="collecting-"))
        self.cleanup = lambda: shutil.rmtree(self.directory)
        self.wanted: dict[bytes, int] = {}
        """Digest to number: live, and not to be lost while the process lives."""
        self.durable: dict[bytes, int] = {}
        """The part of it that a flush has covered."""
        self.steps: Iterator[None] = iter(())
        self.open()

    def open(self) -> None:
        self.store = Store.open(self.directory)
        list(self.store.journal.replay())
        self.store.objects._packs._pack_bytes = 5 * 700
        self.store.objects._packs._limit = min(self.store.objects._packs._limit, 5 * 700)

    @rule(n=st.integers(0, 40))
    def put(self, n: int) -> None:
        self.wanted[self.store.objects.put(content(n), CHUNK)] = n

    @rule(data=st.data())
    @precondition(lambda self: self.wanted)
    def drop(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.wanted)))
        del self.wanted[name]
        self.durable.pop(name, None)

    @rule()
    def flush(self) -> None:
        flush(self.store)
        self.durable = dict(self.wanted)

    @rule()
    def flush_that_does_not_reach_the_end(self) -> None:
        self.store.objects.sync()
        batch = self.store.database.batch()
        self.store.objects.write_index(batch)
        self.store.database.write(batch)

    @rule()
    def begin_to_collect(self) -> None:
        exhaust(self.steps)
        self.store.objects.protect()
        marked = frozenset(self.wanted)
        self.steps = self.store.objects.collect(marked.__contains__)

    @rule(count=st.integers(1, 4))
    def collect(self, count: int) -> None:
        for _ in range(count):
            next(self.steps, None)

    @rule()
    def kill(self) -> None:
        self.store.close()
        self.steps = iter(())
        self.wanted = dict(self.durable)
        self.open()

    @invariant()
    def everything_wanted_is_readable(self) -> None:
        for name, n in self.wanted.items():
            assert name in self.store.objects
            assert self.store.objects.load(name) == content(n)

    def teardown(self) -> None:
        exhaust(self.steps)
        flush(self.store)  # what is pending is live to any collection
        exhaust(self.store.objects.collect(self.wanted.__contains__))
        flush(self.store)
        self.everything_wanted_is_readable()
        counted = self.store.objects.statistics
        found = {name: location for name, _, location in self.store.objects.iterate()}
        assert found.keys() == self.wanted.keys()
        assert counted.objects == len(found)
        assert counted.stored_bytes == sum(HEADER_BYTES + location.stored_length for location in found.values())
        self.store.close()
        self.cleanup()


TestCollecting = Collecting.TestCase
TestCollecting.settings = settings(max_examples=15, stateful_step_count=30)
