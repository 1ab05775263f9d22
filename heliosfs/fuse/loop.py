"""The waiting part of pyfuse3's request loop, made fast, and the place where background work gets its turn.

pyfuse3 takes every asynchronous primitive from its module global `trio`, the seam through which it supports
asyncio. `RequestLoop.install` puts an object there that is trio except for two names that the loop uses
once per request:

    Lock                    an uncontended acquire and release costs no turn of the scheduler
    lowlevel.wait_readable  looks first, then looks again for some microseconds, then blocks for a millisecond in
                            poll, and only then sleeps in trio's epoll

Invariants:
  1. `wait_readable` returns only when the descriptor is readable: pyfuse3's read afterwards would block.
  2. Other tasks get a turn every TURN_REQUESTS requests at the latest, sooner while a handler waits for one.
  3. Background work runs in steps, between which waiting requests are looked for. While requests never
     pause it gets one step every BUSY_STEP_NANOSECONDS; when its backlog has passed a limit, at least as long as
     the requests took.
  4. No spinning and no blocking while a handler is suspended: what it waits for needs this thread. Any other
     task waits for a millisecond at most.
"""

import os
import select
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Protocol

import pyfuse3
import trio

TURN_REQUESTS: Final = 64
"""About a millisecond of requests between two turns of the scheduler."""
TURN_REQUESTS_WAITING: Final = 16
"""While a handler is suspended: a turn costs about as much as a request."""
QUIET_MILLISECONDS: Final = 1
"""Silence before background work begins, spent in poll: longer than the gaps within a burst of requests, and short
enough for other tasks to wait for."""
STEPS_PER_TURN: Final = 8
BUSY_STEP_NANOSECONDS: Final = 10_000_000
"""A step takes up to 1 ms, so the share of background work under load is a tenth at most."""
CATCH_UP_NANOSECONDS_MAX: Final = 100_000_000
"""No request waits longer than this for a backlog that has passed its limit."""
PREEMPTED_NANOSECONDS: Final = 20_000
"""Two looks farther apart than this: somebody else wants this processor."""
HOLD_NANOSECONDS: Final = 5_000_000
"""No spinning for this long after that."""
SPIN_MIN_NANOSECONDS: Final = 2_000
"""A spin shorter than this sees nothing that the first look did not."""

WaitReadable = Callable[[int], Awaitable[None]]


class Activity:
    """How many handlers are suspended."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting = 0


class Background(Protocol):
    """Work that waits for idle time."""

    def pending(self) -> bool: ...

    def step(self) -> None: ...

    def pressure(self) -> float:
        """The backlog as a share of what it may be before requests have to wait for it."""


class Lock:
    """A lock that is free to take when nobody holds it."""

    __slots__ = ("_held", "_waiting")

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        while self._held:
            await self._waiting.park()
        self._held = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held = False
        if self._waiting:
            self._waiting.unpark()


class _Delegate:
    """An object that is another one but for the attributes set on it."""

    def __init__(self, original: Any, **instead: Any) -> None:
        self._original = original
        vars(self).update(instead)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class RequestLoop:
    """Replaces pyfuse3's way of waiting for requests. One for a process, as pyfuse3 has one session."""

    def __init__(
        self,
        activity: Activity,
        background: Background,
        spin_microseconds: int,
        busy: Callable[[], None] = lambda: None,
    ) -> None:
        """`busy` is told at every turn of a load that does not pause."""
        self.installed = False
        self.slept = 0
        self.blocked = 0
        self.spun = 0
        self.missed = 0
        self.preempted = 0
        self.steps = 0
        self.busy_steps = 0
        self.held_up = 0
        self.served = 0
        self._activity = activity
        self._background = background
        self._busy = busy
        self._spin_max = spin_microseconds * 1000
        self._spin = self._spin_max
        self._hold = 0
        self._last_step = 0
        self._last_turn = 0
        self._closing = False
        self._poll: Callable[[int], list[tuple[int, int]]] = select.poll().poll
        self._lowlevel = _Delegate(trio.lowlevel)

    def install(self, handshake: Callable[[], bool] | None = None) -> bool:
        """Take the seam; False when this pyfuse3 has none, which then works as it is.

        `handshake` is called instead of waiting until it returns True: see `relay`.
        """
        if getattr(pyfuse3, "trio", None) is not trio:
            return False
        vars(self._lowlevel)["wait_readable"] = self._first_wait(handshake)
        vars(pyfuse3)["trio"] = _Delegate(trio, Lock=Lock, lowlevel=self._lowlevel)
        self.installed = True
        return True

    def uninstall(self) -> None:
        """Leave pyfuse3 as it was."""
        if self.installed:
            vars(pyfuse3)["trio"] = trio
            self.installed = False

    def terminate(self) -> None:
        """End `pyfuse3.main` from another task of the same trio run."""
        self._closing = True
        pyfuse3.terminate()

    def request_waits(self) -> bool:
        """Whether there is a request to be read; also when that is not known."""
        return not self.installed or bool(self._poll(0))

    def statistics(self) -> dict[str, int]:
        """Numbers for `stats`."""
        names = ("served", "slept", "blocked", "spun", "missed", "preempted", "steps", "busy_steps", "held_up")
        return {name: getattr(self, name) for name in names}

    def _first_wait(self, handshake: Callable[[], bool] | None) -> WaitReadable:
        """Until the session is established; then the fast one takes its place."""

        async def wait_readable(descriptor: int) -> None:
            if handshake is not None and not handshake():
                return
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            self._poll = poll.poll
            fast = self._fast_wait()
            vars(self._lowlevel)["wait_readable"] = fast
            await fast(descriptor)

        return wait_readable

    def _fast_wait(self) -> WaitReadable:
        poll = self._poll
        idle = self._idle
        activity = self._activity
        served = 0

        async def wait_readable(descriptor: int) -> None:
            nonlocal served
            if not poll(0):
                await idle(descriptor)
            served += 1
            if not served % TURN_REQUESTS_WAITING and (activity.waiting or not served % TURN_REQUESTS):
                self.served = served
                await self._turn()

        return wait_readable

    async def _turn(self) -> None:
        """Between two requests of a load that does not pause. The descriptor is readable and stays so."""
        self._busy()
        now = time.perf_counter_ns()
        since = now - self._last_turn
        if self._background.pending():
            pressure = self._background.pressure()
            if pressure >= 1:
                self._catch_up(now + min(int(since * pressure), CATCH_UP_NANOSECONDS_MAX))
            elif now - self._last_step > BUSY_STEP_NANOSECONDS:
                self._last_step = now
                self.busy_steps += 1
                self._background.step()
        await trio.lowlevel.checkpoint()
        self._last_turn = time.perf_counter_ns()

    def _catch_up(self, until: int) -> None:
        """Requests come faster than what they leave behind is worked off: so they wait."""
        self.held_up += 1
        while self._background.pending() and time.perf_counter_ns() < until:
            self._background.step()

    async def _idle(self, descriptor: int) -> None:
        """Nothing waits: look a little longer, work a little, sleep. Returns when there is a request."""
        start = time.perf_counter_ns()
        if not self._activity.waiting:
            if self._spin >= SPIN_MIN_NANOSECONDS and start > self._hold and self._spins(start):
                return
            if self._blocks(start):
                return
        if self._background.pending() and await self._works(descriptor):
            return
        self.slept += 1
        await self._sleep(descriptor)

    def _blocks(self, start: int) -> bool:
        """Give the processor away for a moment, by a system call that costs a tenth of trio's sleep; whether a
        request came.

        `sched_yield` does not do that for a client of another session: the kernel's automatic groups have the two
        share a processor as groups, and a yield stays within one's own.
        """
        if self._closing or not self._poll(QUIET_MILLISECONDS):
            return False
        self.blocked += 1
        if time.perf_counter_ns() - start < self._spin_max:
            self._spin = self._spin_max
        return True

    async def _sleep(self, descriptor: int) -> None:
        if self._closing:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(descriptor)

    def _spins(self, start: int) -> bool:
        """Look again and again for a moment; whether a request came."""
        poll = self._poll
        now = time.perf_counter_ns
        give_way = os.sched_yield
        last = start
        end = start + self._spin
        while True:
            give_way()
            if poll(0):
                self.spun += 1
                self._spin = self._spin_max
                return True
            looked = now()
            if looked - last > PREEMPTED_NANOSECONDS:
                self.preempted += 1
                self._hold = looked + HOLD_NANOSECONDS
                return False
            if looked >= end:
                self.missed += 1
                self._spin >>= 1
                return False
            last = looked

    async def _works(self, descriptor: int) -> bool:
        """Background work after a moment of silence; whether a request came meanwhile."""
        if self._activity.waiting:
            with trio.move_on_after(QUIET_MILLISECONDS / 1000):
                await self._sleep(descriptor)
                return True
        steps = 0
        while self._background.pending():
            self._background.step()
            steps += 1
            self.steps += 1
            if self._poll(0):
                return True
            if self._activity.waiting or not steps % STEPS_PER_TURN:
                await trio.lowlevel.checkpoint()
                if self._poll(0):
                    return True
                if self._closing:
                    raise trio.ClosedResourceError
        self._last_step = time.perf_counter_ns()
        return False
