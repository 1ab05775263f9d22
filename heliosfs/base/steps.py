"""Long work in steps: a generator that gives way between them, and returns what comes of it."""

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")

Steps = Generator[None, None, Result]


def finish(steps: Generator[None, None, Result]) -> Result:
    """All steps, one after another."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
