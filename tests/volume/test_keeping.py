"""Notes, holds, settings, and the states that are kept by themselves."""

import errno
from collections.abc import Callable

import pytest

from heliosfs.base.errors import Refusal
from heliosfs.volume import annotations, log_check, settings, states, working_states
from heliosfs.volume import time_machine as module
from heliosfs.volume.time_machine import superfluous
from heliosfs.volume.volume import Volume
from tests.volume.trees import CALLER, put, shown

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND


def refused(number: int, act: Callable[[], object]) -> str:
    with pytest.raises(Refusal) as refusal:
        act()
    assert refusal.value.errno == number
    return str(refusal.value)


def test_notes_are_operations(volume: Volume, reopen: Callable[[Volume], Volume]) -> None:
    registry = volume.registry
    snapshot = volume.snapshot(volume.main, b"s", CALLER, message="why", notes={"k": "v"})
    annotations.set_note(registry, snapshot, "k", "other", CALLER)
    annotations.set_note(registry, snapshot, "new", "", CALLER)
    annotations.remove_note(registry, snapshot, "k", CALLER)
    assert snapshot.record.notes == {"new": ""} and snapshot.record.message == "why"
    volume.undo(volume.main, CALLER)
    assert snapshot.record.notes == {"k": "other", "new": ""}
    number = next(each.number for each in volume.log() if each.text == "s k")
    volume.undo(volume.main, CALLER, number)
    assert snapshot.record.notes == {"k": "v", "new": ""}
    volume = reopen(volume)
    assert volume.main.snapshots[b"s"].record.notes == {"k": "v", "new": ""}
    volume.close()


def test_notes_have_limits(volume: Volume) -> None:
    registry = volume.registry
    snapshot = volume.snapshot(volume.main, b"s", CALLER)
    for key in ("", "a=b", "a b", "a\n", "x" * 201):
        refused(errno.EINVAL, lambda key=key: annotations.set_note(registry, snapshot, key, "v", CALLER))  # type: ignore[misc]
    refused(errno.E2BIG, lambda: annotations.set_note(registry, snapshot, "k", "v" * 4097, CALLER))
    refused(errno.EINVAL, lambda: annotations.set_note(registry, snapshot, "k", "\udcff", CALLER))
    refused(errno.EINVAL, lambda: volume.snapshot(volume.main, b"t", CALLER, message="\udcff"))
    refused(errno.ENODATA, lambda: annotations.remove_note(registry, snapshot, "k", CALLER))
    refused(errno.ENOSPC, lambda: annotations.check_notes({str(number): "" for number in range(65)}))
    refused(errno.E2BIG, lambda: volume.snapshot(volume.main, b"t", CALLER, message="x" * 70_000))
    assert list(volume.main.snapshots) == [b"s"]


def test_a_hold_protects(volume: Volume) -> None:
    branch = volume.fork(volume.main, b"child", CALLER)
    fork = len(volume.log())
    snapshot = volume.snapshot(branch, b"s", CALLER)
    made = len(volume.log())
    annotations.hold(volume.registry, snapshot, CALLER)
    assert "release" in refused(errno.EBUSY, lambda: volume.drop_snapshot(branch, b"s", CALLER))
    refused(errno.EBUSY, lambda: volume.drop_branch(volume.main, b"child", CALLER))
    refused(errno.EBUSY, lambda: volume.undo(branch, CALLER, made))
    refused(errno.EBUSY, lambda: volume.undo(volume.main, CALLER, fork))
    volume.rename_snapshot(branch, b"s", b"t", CALLER)
    refused(errno.EBUSY, lambda: volume.drop_snapshot(branch, b"t", CALLER))
    annotations.release(volume.registry, snapshot, CALLER)
    volume.drop_snapshot(branch, b"t", CALLER)
    volume.undo(branch, CALLER)
    volume.undo(branch, CALLER)
    volume.undo(branch, CALLER)


def test_settings(volume: Volume, reopen: Callable[[Volume], Volume]) -> None:
    registry = volume.registry

    def set_to(value: str, name: str = settings.INTERVAL) -> None:
        settings.put(registry, volume.main, name, value, CALLER)

    for value in ("", "10", "0s", "10 s", "s", "-1s", "1y"):
        refused(errno.EINVAL, lambda value=value: set_to(value))  # type: ignore[misc]
    assert "auto.interval" in refused(errno.ENOENT, lambda: set_to("1s", "nothing"))
    set_to("3m")
    assert settings.as_json(registry, settings.INTERVAL)["value"] == "3m"
    assert log_check.changes_as_json(registry, volume.log()[-1]) == [
        {"kind": "setting", "name": "auto.interval", "before": None, "after": "3m"}
    ]
    set_to("off")
    volume.undo(volume.main, CALLER)
    assert registry.settings == {"auto.interval": "3m"}
    volume = reopen(volume)
    assert volume.registry.settings == {"auto.interval": "3m"}
    settings.put(volume.registry, volume.main, settings.INTERVAL, settings.DEFAULT, CALLER)
    assert volume.registry.settings == {}
    volume.undo(volume.main, CALLER)
    assert volume.registry.settings == {"auto.interval": "3m"}
    volume = reopen(volume)
    assert volume.registry.settings == {"auto.interval": "3m"}
    volume.close()


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moment = START
        monkeypatch.setattr(module, "now", lambda: self.moment)
        monkeypatch.setattr(states, "now", lambda: self.moment)

    def on(self, seconds: float) -> None:
        self.moment += int(seconds * SECOND)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def tick(volume: Volume) -> bool:
    if not volume.time_machine.due():
        return False
    volume.time_machine.run()
    return True


def test_states_are_kept_while_there_is_change(
    clock: Clock, volume: Volume, reopen: Callable[[Volume], Volume]
) -> None:
    volume.time_machine = module.TimeMachine(volume.registry)
    volume.fork(volume.main, b"idle", CALLER)
    for number in range(3):
        put(volume.main.view, b"f", b"%d" % number)
        clock.on(10)
        assert tick(volume)
    operations = len(volume.log())
    names = [b"2026-09-21T14:13:30Z", b"2026-09-21T14:13:40Z", b"2026-09-21T14:13:50Z"]
    assert list(volume.main.timed) == names and not volume.main.children[b"idle"].timed
    head = volume.engine.journal.head
    clock.on(1000)
    assert not tick(volume) and volume.engine.journal.head == head
    volume.snapshot(volume.main, b"s", CALLER)
    assert tick(volume) and list(volume.main.timed) == names
    put(volume.main.view, b"f", b"broken")
    volume.restore_paths(volume.main, "17 minutes ago", [b"f"], CALLER)
    assert shown(volume.main.view)[b"f"].content == b"0"
    volume = reopen(volume)
    assert list(volume.main.timed) == names
    for name, content in zip(names, (b"0", b"1", b"2"), strict=True):
        for text in (name.decode(), f".auto/{name.decode()}"):
            volume.restore(volume.main, text, CALLER)
            assert shown(volume.main.view)[b"f"].content == content
    assert [each.verb for each in volume.log()[operations:]] == ["snapshot.create"] + ["restore"] * 7
    volume.drop_timed(volume.main, names[0])
    refused(errno.ENOENT, lambda: volume.drop_timed(volume.main, names[0]))
    volume = reopen(volume)
    assert list(volume.main.timed) == names[1:]
    volume.close()


def test_off_and_the_interval(clock: Clock, volume: Volume) -> None:
    volume.time_machine = module.TimeMachine(volume.registry)
    settings.put(volume.registry, volume.main, settings.INTERVAL, "off", CALLER)
    put(volume.main.view, b"f", b"1")
    clock.on(1000)
    assert not tick(volume)
    settings.put(volume.registry, volume.main, settings.INTERVAL, "20s", CALLER)
    assert tick(volume)
    put(volume.main.view, b"f", b"2")
    clock.on(19)
    assert not tick(volume)
    clock.on(1)
    assert tick(volume) and len(volume.main.timed) == 2


def test_dropped_branches_take_their_states_along(
    clock: Clock, volume: Volume, reopen: Callable[[Volume], Volume]
) -> None:
    volume.time_machine = module.TimeMachine(volume.registry)
    child = volume.fork(volume.main, b"child", CALLER)
    put(child.view, b"f", b"1")
    clock.on(10)
    assert tick(volume) and len(child.timed) == 1
    volume.drop_branch(volume.main, b"child", CALLER)
    volume = reopen(volume)
    volume.undo(volume.main, CALLER)
    assert shown(volume.main.children[b"child"].view)[b"f"].content == b"1"
    assert not volume.main.children[b"child"].timed
    volume.close()


def test_thinning(clock: Clock, volume: Volume) -> None:
    """A day with a change every 10 s, then what is left of it: few, and the newest always."""
    volume.time_machine = module.TimeMachine(volume.registry)
    limits = ("auto.keep.all", "1m"), ("auto.keep.minutes", "5m"), ("auto.keep.hours", "off"), ("auto.keep.days", "off")
    for name, value in limits:
        settings.put(volume.registry, volume.main, name, value, CALLER)
    for number in range(60):
        put(volume.main.view, b"f", b"%d" % number)
        clock.on(10)
        assert tick(volume)
    created = [each.created for each in volume.main.timed.values()]
    assert created[-1] == clock.moment and len(created) <= 6 + 6 + 5
    assert all(clock.moment - each <= 6 * 60 * SECOND for each in created)
    assert all(each.state.id in volume.registry.reachable() for each in volume.main.timed.values())


def test_a_collection_on_a_full_disk_leaves_what_a_command_works_with(clock: Clock, volume: Volume) -> None:
    volume.time_machine = module.TimeMachine(volume.registry)
    put(volume.main.view, b"f", b"1")
    clock.on(10)
    assert tick(volume)
    place = working_states.show(volume.registry, volume.main, "now", CALLER)
    clock.on(10)
    volume.upkeep.let_go(True, 0)
    assert list(volume.main.timed.values()) == [place.made]


def test_what_is_superfluous(volume: Volume) -> None:
    class At:
        def __init__(self, age: int) -> None:
            self.created = START - age * SECOND

    limits = [(10 * SECOND, 1), (60 * SECOND, 10 * SECOND), (600 * SECOND, 60 * SECOND), (0, 3600 * SECOND)]
    found = superfluous([At(age) for age in range(900, -1, -1)], limits, START)  # type: ignore[misc]
    left = sorted({START - age * SECOND for age in range(901)} - {each.created for each in found}, reverse=True)
    assert [(START - each) // SECOND for each in left[:11]] == list(range(11))
    assert all(each % (10 * SECOND) == 0 for each in left[11:16])
    assert all(each % (60 * SECOND) == 0 for each in left[17:-1]) and len(left) < 11 + 6 + 11
