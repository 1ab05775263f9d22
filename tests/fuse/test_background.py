"""Background work that fails is reported, pauses, and ends nothing."""

import pytest

from heliosfs.base.errors import Corruption
from heliosfs.fuse import background
from heliosfs.fuse.background import PAUSE_NANOSECONDS, BackgroundWork
from heliosfs.fuse.errors import Faults


class Work:
    def __init__(self) -> None:
        self.steps = 0
        self.failing = False
        self.left = 10

    def dirty(self) -> bool:
        return self.left > 0

    def pressure(self) -> float:
        return self.left / 100

    def step(self) -> None:
        if self.failing:
            raise Corruption("chunk", "here")
        self.steps += 1
        self.left -= 1


class Clock:
    def __init__(self) -> None:
        self.time = 1

    def monotonic_ns(self) -> int:
        return self.time


def test_a_failure_pauses_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(background, "time", clock)
    work, faults = Work(), Faults()
    stepper = BackgroundWork(work, faults)
    assert stepper.pending()
    stepper.step()
    work.failing = True
    stepper.step()
    assert (work.steps, stepper.failures, faults.corruptions) == (1, 1, 1)
    assert stepper.failing, "which is shown until it works again"
    assert not stepper.pending()
    clock.time += PAUSE_NANOSECONDS
    assert stepper.pending()
    work.failing = False
    stepper.step()
    assert stepper.pending() and work.steps == 2 and not stepper.failing


def test_nothing_to_do() -> None:
    work = Work()
    work.left = 0
    assert not BackgroundWork(work, Faults()).pending()
