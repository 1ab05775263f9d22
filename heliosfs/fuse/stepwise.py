"""Long work of the engine that lets requests in between its steps."""

from collections.abc import Generator
from time import perf_counter_ns
from typing import Final, TypeVar

import trio

Result = TypeVar("Result")

TURN_NANOSECONDS: Final = 1_000_000
"""So long steps go on without a look for requests: a look costs as much as many a step."""


async def stepwise(steps: Generator[None, None, Result]) -> Result:
    """Run a generator to its end, with a chance for requests at least after every step that takes long; what it
    returns."""
    try:
        while True:
            ended = begun(steps, TURN_NANOSECONDS)
            if ended is not None:
                return ended[0]
            await trio.lowlevel.checkpoint()
    finally:
        steps.close()


def begun(steps: Generator[None, None, Result], nanoseconds: int) -> tuple[Result] | None:
    """Run a generator for some time; what it returned, None if it is not at its end."""
    until = perf_counter_ns() + nanoseconds
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return (end.value,)
        if perf_counter_ns() >= until:
            return None
