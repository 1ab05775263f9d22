"""Group commit: who waits is served by a sync that began after they asked, and few syncs serve many."""

import threading

import pytest
import trio

from heliosfs.fuse import commits as commits_module
from heliosfs.fuse.commits import GroupCommit

PATIENCE_SECONDS = 120


class Disk:
    """A sync that takes until it is told to end, if `held`."""

    def __init__(self) -> None:
        self.written = 0
        self.synced = 0
        self.failing: set[int] = set()
        self.held = False
        self.calls = 0
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def sync(self) -> None:
        self.calls += 1
        call = self.calls
        covered = self.written
        self.begun.release()
        if self.held:
            assert self.go_on.acquire(timeout=PATIENCE_SECONDS)
        if call in self.failing:
            raise OSError(5, f"sync {call} failed")
        self.synced = covered


async def begin(disk: Disk) -> None:
    """Wait until a sync has begun."""
    assert await trio.to_thread.run_sync(disk.begun.acquire, True, PATIENCE_SECONDS)


def test_one_who_waits_is_served_by_one_sync() -> None:
    disk = Disk()
    commits = GroupCommit(disk.sync)
    disk.written = 1
    trio.run(commits.wait)
    assert (disk.synced, disk.calls, commits.asked, commits.done) == (1, 1, 1, 1)


def test_those_who_come_during_a_sync_share_the_next_one() -> None:
    disk = Disk()
    disk.held = True
    commits = GroupCommit(disk.sync)
    covered: list[int] = []

    async def write_and_wait(number: int) -> None:
        disk.written = max(disk.written, number)
        await commits.wait()
        assert disk.synced >= number
        covered.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_and_wait, 1)
            await begin(disk)
            for number in range(2, 12):
                nursery.start_soon(write_and_wait, number)
            while commits.asked < 11:
                await trio.lowlevel.checkpoint()
            assert not covered and disk.calls == 1
            disk.go_on.release()
            await begin(disk)
            disk.go_on.release()

    trio.run(main)
    assert sorted(covered) == list(range(1, 12))
    assert (disk.calls, commits.asked, commits.done) == (2, 11, 2)


def test_a_failure_is_told_to_all_who_waited_for_that_sync_and_to_nobody_else() -> None:
    disk = Disk()
    disk.held = True
    disk.failing = {2}
    commits = GroupCommit(disk.sync)
    outcomes: list[tuple[str, bool]] = []

    async def wait(who: str) -> None:
        try:
            await commits.wait()
        except OSError:
            outcomes.append((who, False))
        else:
            outcomes.append((who, True))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "first")
            await begin(disk)
            nursery.start_soon(wait, "second")
            nursery.start_soon(wait, "second")
            while commits.asked < 3:
                await trio.lowlevel.checkpoint()
            disk.go_on.release()
            await begin(disk)
            disk.go_on.release()
        disk.held = False
        await wait("third")

    trio.run(main)
    assert sorted(outcomes) == [("first", True), ("second", False), ("second", False), ("third", True)]


def test_who_gives_up_leaves_the_others_served() -> None:
    disk = Disk()
    disk.held = True
    commits = GroupCommit(disk.sync)
    served: list[str] = []

    async def wait(who: str) -> None:
        await commits.wait()
        served.append(who)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "first")
            await begin(disk)
            async with trio.open_nursery() as impatient:
                impatient.start_soon(wait, "impatient")
                while commits.asked < 2:
                    await trio.lowlevel.checkpoint()
                impatient.cancel_scope.cancel()
            nursery.start_soon(wait, "patient")
            while commits.asked < 3:
                await trio.lowlevel.checkpoint()
            disk.go_on.release()
            await begin(disk)
            disk.go_on.release()

    trio.run(main)
    assert served == ["first", "patient"]


def test_a_sync_that_has_begun_is_not_torn() -> None:
    disk = Disk()
    disk.held = True
    commits = GroupCommit(disk.sync)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commits.wait)
            await begin(disk)
            nursery.cancel_scope.cancel()
            disk.go_on.release()

    trio.run(main)
    assert commits.done == 1


def test_the_next_one_after_a_failure_syncs_again() -> None:
    disk = Disk()
    disk.failing = {1}
    commits = GroupCommit(disk.sync)
    with pytest.raises(OSError, match="sync 1 failed"):
        trio.run(commits.wait)
    trio.run(commits.wait)
    assert disk.calls == 2


def test_a_quick_sync_is_made_at_once_where_nothing_else_is_to_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits_module, "QUICK_SECONDS", PATIENCE_SECONDS)
    disk = Disk()
    busy = True
    commits = GroupCommit(disk.sync, lambda: busy)
    assert not commits.at_once() and disk.calls == 0
    busy = False
    disk.written = 1
    assert commits.at_once()
    assert (disk.synced, disk.calls, commits.asked, commits.done, commits.done_at_once) == (1, 1, 1, 1, 1)
    disk.failing = {2}
    with pytest.raises(OSError):
        commits.at_once()
    disk.held = True

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commits.wait)
            await begin(disk)
            assert not commits.at_once(), "it would have to wait for the one that is under way"
            disk.go_on.release()

    for _ in range(2):  # what the first two calls have noted
        disk.begun.acquire()
    trio.run(main)
    disk.held = False
    assert commits.at_once()


def test_a_slow_disk_is_left_to_the_thread_until_it_is_quick_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(commits_module.time, "perf_counter", lambda: clock[0])
    takes = 0.0

    def sync() -> None:
        clock[0] += takes

    commits = GroupCommit(sync, lambda: False)
    assert not commits.at_once(), "nothing is known yet"
    for _ in range(50):
        trio.run(commits.wait)
    assert commits.at_once()
    takes = 1.0
    assert commits.at_once()
    takes = 0.0
    assert not commits.at_once()
    for _ in range(50):
        trio.run(commits.wait)
    assert commits.at_once()
