"""The waiting part of the request loop, with a pipe for the device."""

import os
from collections.abc import Iterator
from types import SimpleNamespace

import pyfuse3
import pytest
import trio
import trio.testing

from heliosfs.fuse import loop
from heliosfs.fuse.loop import Activity, Lock, RequestLoop


class Work:
    """Background work of so many steps; at the step `until` something is written to the pipe."""

    def __init__(self, steps: int = 0) -> None:
        self.left = steps
        self.done = 0
        self.request_at = 0
        self.writer = -1
        self.backlog = 0.0

    def pressure(self) -> float:
        return self.backlog

    def pending(self) -> bool:
        return self.left > 0

    def step(self) -> None:
        self.left -= 1
        self.done += 1
        if self.done == self.request_at:
            os.write(self.writer, b"r")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def installed(work: Work, activity: Activity | None = None, spin: int = 0) -> RequestLoop:
    request_loop = RequestLoop(activity or Activity(), work, spin)
    assert request_loop.install()
    return request_loop


@pytest.fixture(autouse=True)
def seam() -> Iterator[None]:
    """pyfuse3 as it was, whatever a test leaves."""
    yield
    vars(pyfuse3)["trio"] = trio


def seen_by_pyfuse3() -> SimpleNamespace:
    """The module global from which pyfuse3 takes what it awaits."""
    found: SimpleNamespace = vars(pyfuse3)["trio"]
    return found


def test_the_seam_is_there_in_this_pyfuse3() -> None:
    assert vars(pyfuse3)["trio"] is trio


def test_two_names_are_replaced_and_all_others_are_trios() -> None:
    request_loop = installed(Work())
    seam = seen_by_pyfuse3()
    assert seam.Lock is Lock
    assert seam.lowlevel.wait_readable is not trio.lowlevel.wait_readable
    assert seam.open_nursery is trio.open_nursery and seam.lowlevel.checkpoint is trio.lowlevel.checkpoint
    request_loop.uninstall()
    assert vars(pyfuse3)["trio"] is trio and not request_loop.installed


def test_without_the_seam_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace()
    monkeypatch.setitem(vars(pyfuse3), "trio", other)
    request_loop = RequestLoop(Activity(), Work(), 30)
    assert not request_loop.install() and not request_loop.installed
    request_loop.uninstall()
    assert vars(pyfuse3)["trio"] is other
    monkeypatch.delitem(vars(pyfuse3), "trio")
    assert not request_loop.install()


def test_a_lock_admits_one_at_a_time_and_loses_nobody() -> None:
    lock = Lock()
    inside = 0
    most = 0
    finished = 0

    async def enter() -> None:
        nonlocal inside, most, finished
        async with lock:
            inside += 1
            most = max(most, inside)
            await trio.lowlevel.checkpoint()
            inside -= 1
        finished += 1

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(enter)

    trio.run(main)
    assert (most, finished) == (1, 50)


def test_a_lock_is_released_by_an_exception_and_by_giving_up() -> None:
    lock = Lock()

    async def main() -> None:
        with pytest.raises(KeyError):
            async with lock:
                raise KeyError
        async with lock, trio.open_nursery() as nursery:
            nursery.start_soon(enter)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        async with lock:
            pass

    async def enter() -> None:
        async with lock:
            raise AssertionError("it is held")

    trio.run(main)


def test_a_free_lock_costs_no_turn_of_the_scheduler() -> None:
    lock = Lock()
    steps = lock.__aenter__()
    with pytest.raises(StopIteration):
        steps.send(None)


def test_a_request_that_waits_is_taken_at_once(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    request_loop = installed(Work())
    os.write(writer, b"r")
    trio.run(seen_by_pyfuse3().lowlevel.wait_readable, reader)
    assert request_loop.slept == 0


def test_it_returns_only_when_there_is_something_to_read(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    request_loop = installed(Work(), spin=30)
    returned = False

    async def wait() -> None:
        nonlocal returned
        await seen_by_pyfuse3().lowlevel.wait_readable(reader)
        returned = True

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not returned
            os.write(writer, b"r")

    trio.run(main)
    assert returned and request_loop.slept == 1


def test_work_is_done_in_silence_until_there_is_none(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    work = Work(steps=100)
    request_loop = installed(work)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(seen_by_pyfuse3().lowlevel.wait_readable, reader)
            while work.left or not request_loop.slept:
                await trio.lowlevel.checkpoint()
            os.write(writer, b"r")

    trio.run(main)
    assert (work.done, request_loop.steps) == (100, 100)


def test_a_request_interrupts_the_work(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    work = Work(steps=100)
    work.request_at, work.writer = 7, writer
    installed(work)
    trio.run(seen_by_pyfuse3().lowlevel.wait_readable, reader)
    assert work.done == 7


def test_other_tasks_get_turns_while_requests_never_pause(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    request_loop = installed(Work())
    os.write(writer, b"r")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            wait = seen_by_pyfuse3().lowlevel.wait_readable
            await wait(reader)
            wait = seen_by_pyfuse3().lowlevel.wait_readable
            for _ in range(10 * loop.TURN_REQUESTS):
                await wait(reader)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert turns >= 9, "ten turns, of which the last may be this task's own"
    assert request_loop.statistics()["served"] == 10 * loop.TURN_REQUESTS


def test_work_gets_steps_while_requests_never_pause(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BUSY_STEP_NANOSECONDS", 0)
    reader, writer = pipe
    work = Work(steps=1000)
    request_loop = installed(work)
    os.write(writer, b"r")

    async def main() -> None:
        await seen_by_pyfuse3().lowlevel.wait_readable(reader)
        wait = seen_by_pyfuse3().lowlevel.wait_readable
        for _ in range(10 * loop.TURN_REQUESTS):
            await wait(reader)

    trio.run(main)
    assert work.done == request_loop.busy_steps == 10


def test_requests_wait_for_a_backlog_beyond_its_limit(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    work = Work(steps=1000)
    work.backlog = 1e9  # as if requests had taken long
    request_loop = installed(work)
    os.write(writer, b"r")
    monkeypatch.setattr(loop, "CATCH_UP_NANOSECONDS_MAX", 10**12)

    async def main() -> None:
        await seen_by_pyfuse3().lowlevel.wait_readable(reader)
        wait = seen_by_pyfuse3().lowlevel.wait_readable
        for _ in range(2 * loop.TURN_REQUESTS):
            await wait(reader)

    trio.run(main)
    assert work.done == 1000
    assert request_loop.busy_steps == 0 and request_loop.held_up == 1


def test_nothing_spins_while_a_handler_is_suspended(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    activity = Activity()
    activity.waiting = 1
    request_loop = installed(Work(), activity, spin=50)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(seen_by_pyfuse3().lowlevel.wait_readable, reader)
            await trio.testing.wait_all_tasks_blocked()
            os.write(writer, b"r")

    trio.run(main)
    assert (request_loop.spun, request_loop.missed, request_loop.preempted) == (0, 0, 0)


def test_it_tells_that_requests_keep_coming(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    told = []
    request_loop = RequestLoop(Activity(), Work(), 0, lambda: told.append(request_loop.served))
    request_loop.install()
    os.write(writer, b"r")

    async def main() -> None:
        for _ in range(3 * loop.TURN_REQUESTS):
            await seen_by_pyfuse3().lowlevel.wait_readable(reader)

    trio.run(main)
    assert told == [loop.TURN_REQUESTS, 2 * loop.TURN_REQUESTS, 3 * loop.TURN_REQUESTS]


def test_a_handshake_comes_before_everything(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    steps = iter([False, False, True])
    request_loop = RequestLoop(Activity(), Work(), 0)
    request_loop.install(lambda: next(steps))
    os.write(writer, b"r")

    async def main() -> None:
        for _ in range(3):
            await seen_by_pyfuse3().lowlevel.wait_readable(reader)

    trio.run(main)
    assert next(steps, None) is None
    assert request_loop.served == 0 and request_loop.slept == 0


def test_it_ends_instead_of_sleeping(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, _ = pipe
    request_loop = installed(Work())
    monkeypatch.setattr(pyfuse3, "terminate", lambda: None)
    request_loop.terminate()
    with pytest.raises(trio.ClosedResourceError):
        trio.run(seen_by_pyfuse3().lowlevel.wait_readable, reader)
