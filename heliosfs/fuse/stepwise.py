"""Long work of the engine that lets requests in between its steps."""

from collections.abc import Generator
from typing import TypeVar

import trio

Result = TypeVar("Result")


async def stepwise(steps: Generator[None, None, Result]) -> Result:
    """Run a generator to its end, with a chance for requests after every step; what it returns."""
    try:
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            await trio.lowlevel.checkpoint()
    finally:
        steps.close()
