"""Making a failing program small: take parts away as long as it still fails."""

from __future__ import annotations

from collections.abc import Callable

from .steps import Step


def shrink(steps: list[Step], fails: Callable[[list[Step]], bool], attempts: int = 600) -> list[Step]:
    """The smallest program found that still fails, by removing ever smaller parts (delta debugging)."""
    part = max(1, len(steps) // 2)
    while attempts > 0:
        start = 0
        removed = False
        while start < len(steps) and attempts > 0:
            candidate = steps[:start] + steps[start + part :]
            attempts -= 1
            if candidate and fails(candidate):
                steps = candidate
                removed = True
            else:
                start += part
        if part == 1 and not removed:
            break
        part = max(1, part // 2)
    return steps
