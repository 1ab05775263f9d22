"""A line that says how far a long command is, for terminals: a bar where the whole is known."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import click

from heliosfs.cli import output

PERIOD_SECONDS = 0.2
WIDTH = 30


class State(NamedTuple):
    """How far it is. `done` of `whole` is what the bar shows; a whole of 0 is one that is not known."""

    files: int
    size: int
    done: int = 0
    whole: int = 0


class Progress(AbstractContextManager["Progress"]):
    """Asks `state` now and then, in a thread of its own, while the body runs. Nothing unless it is for a terminal."""

    def __init__(self, state: Callable[[], State | None], *, wanted: bool = True) -> None:
        self._state = state
        self._begun = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._wanted = wanted and sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        if self._wanted:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._wanted:
            self._thread.join()
            click.echo("\r\x1b[K", nl=False, err=True)

    def _watch(self) -> None:
        while not self._done.wait(PERIOD_SECONDS):
            state = self._state()
            if state is not None:
                click.echo(f"\r{line(state, time.monotonic() - self._begun)}\x1b[K", nl=False, err=True)


def line(state: State, seconds: float) -> str:
    """One line of at most 79 characters."""
    rate = output.size(state.size / max(seconds, PERIOD_SECONDS))
    text = f"{state.files} files, {output.size(state.size)}, {rate}/s"
    if not state.whole:
        return text
    part = min(1.0, state.done / state.whole)
    filled = round(part * WIDTH)
    return f"[{'#' * filled}{'-' * (WIDTH - filled)}] {part:4.0%}  {text}"
