"""The operation log: whatever is changed in what is stored of it shows."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from heliosfs.store.database import OPERATIONS
from heliosfs.volume import log_check, operations
from heliosfs.volume.volume import Volume
from tests.volume.trees import CALLER, put


def checked(volume: Volume) -> tuple[int, list[str]]:
    steps = log_check.verify(volume.store.database, volume.registry)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: tuple[int, list[str]] = end.value
            return found


def filled(volume: Volume) -> None:
    for number in range(4):
        put(volume.main.view, b"f", b"%d" % number)
        volume.snapshot(volume.main, b"s%d" % number, CALLER, message="first" if not number else "")
    volume.flush()
    volume.rename_snapshot(volume.main, b"s0", b"renamed", CALLER)


def key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def store(volume: Volume, number: int, value: bytes | None) -> None:
    batch = volume.store.database.batch()
    if value is None:
        batch.delete(OPERATIONS, key(number))
    else:
        batch.put(OPERATIONS, key(number), value)
    volume.store.database.write(batch)


def test_a_sound_log(volume: Volume, reopen: Callable[[Volume], Volume]) -> None:
    filled(volume)
    assert checked(volume) == (6, [])
    volume = reopen(volume)
    assert checked(volume) == (6, [])
    volume.close()


def test_a_changed_operation(volume: Volume) -> None:
    filled(volume)
    operation = volume.log()[2]
    store(volume, 3, operations.encode(replace(operation, uid=0)))
    problems = checked(volume)[1]
    assert "operation 3 was changed after it was recorded" in problems
    # One that was given a fitting hash does not fit the next one.
    store(volume, 3, operations.chain(replace(operation, uid=0, hash=b""))[1])
    problems = checked(volume)[1]
    assert "operation 4 does not follow the one before it" in problems


def test_missing_operations(volume: Volume, reopen: Callable[[Volume], Volume]) -> None:
    filled(volume)
    store(volume, 5, None)
    assert "operation 5 is not stored any more" in checked(volume)[1]
    store(volume, 3, b"not a record")
    assert any("damaged operation" in problem for problem in checked(volume)[1])


def test_before_and_after(volume: Volume) -> None:
    filled(volume)
    *_, created, renamed = [log_check.changes_as_json(volume.registry, each) for each in volume.log()]
    [change] = created
    assert change["kind"] == "snapshot" and change["name"] == "s3" and change["branch"] == ""
    assert change["before"] is None and change["after"]["state"]
    shown: list[tuple[str, Any]] = [(each["name"], (each["after"] or {}).get("message")) for each in renamed]
    assert shown == [("s0", None), ("renamed", "first")]
    volume.restore(volume.main, "s1", CALLER)
    [change] = log_check.changes_as_json(volume.registry, volume.log()[-1])
    assert change["kind"] == "branch" and change["before"]["state"] != change["after"]["state"]
