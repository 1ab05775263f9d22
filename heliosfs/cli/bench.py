"""heliosfs bench: a quick look at how fast this machine serves a fresh volume, beside the disk that it lies on."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import click

from heliosfs.base.errors import HeliosError
from heliosfs.cli import output
from heliosfs.cli.options import as_json as json_option

FILES: Final = 200
SYNCS: Final = 20
CHECKPOINTS: Final = 50
LARGE_BYTES: Final = 32 << 20
PIECE_BYTES: Final = 1 << 20
BYTES: Final = b"x" * 4000

Step = tuple[str, int, Callable[[Path], object]]
"""A name, how many operations it is, and what does them in a directory."""


class Row(NamedTuple):
    """Seconds for one operation, medians over the rounds; None where the disk itself cannot do it."""

    name: str
    mounted: float
    disk: float | None


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="How often.")
@json_option
def command(directory: Path | None, rounds: int, as_json: bool) -> None:
    """Mount a new volume in DIRECTORY, time some operations on it and beside it, and take it away again.

    DIRECTORY is that for temporary files unless it is given: choose one on the disk that is to hold a store. It takes
    some seconds. Compare the columns of one run, not two runs: other load on the machine counts in both.

    \b
    Examples:
      heliosfs bench
      heliosfs bench /srv --json
    """
    with tempfile.TemporaryDirectory(prefix="heliosfs-bench-", dir=directory) as base:
        rows, features = _measure(Path(base), rounds)
    if as_json:
        named = [row._asdict() for row in rows]
        output.say_json({"seconds": named, "features": features})
        return
    output.table(("OPERATION", "HELIOSFS", "DISK", "RATIO"), map(_cells, rows), right=(1, 2, 3))
    absent = [name.replace("_", " ") for name, active in features.items() if not active]
    if absent:
        output.say(f"\nslower without: {', '.join(absent)}")


def _measure(base: Path, rounds: int) -> tuple[list[Row], dict[str, bool]]:
    mountpoint, disk = base / "mount", base / "disk"
    mountpoint.mkdir()
    disk.mkdir()
    _heliosfs("mount", base / "store", mountpoint)
    try:
        features = json.loads((mountpoint / ".heliosfs" / "status").read_text())["features"]
        mounted: dict[str, list[float]] = {}
        beside: dict[str, list[float]] = {}
        for number in range(rounds):
            large = os.urandom(LARGE_BYTES)
            for found, top in ((mounted, mountpoint), (beside, disk)):
                directory = top / f"round{number}"
                directory.mkdir()
                for name, seconds in _run(_ordinary(large), directory):
                    found.setdefault(name, []).append(seconds)
            for name, seconds in _run(_checkpoints(number), mountpoint):
                mounted.setdefault(name, []).append(seconds)
    finally:
        _heliosfs("umount", mountpoint)
    medians = {name: statistics.median(seconds) for name, seconds in beside.items()}
    return [Row(name, statistics.median(seconds), medians.get(name)) for name, seconds in mounted.items()], features


def _heliosfs(*words: str | Path) -> None:
    command = [sys.executable, "-m", "heliosfs", *map(str, words)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise HeliosError(done.stderr.strip().removeprefix("heliosfs: ") or f"{words[0]} failed")


def _run(steps: list[Step], directory: Path) -> Iterator[tuple[str, float]]:
    for name, count, act in steps:
        start = time.perf_counter()
        act(directory)
        yield name, (time.perf_counter() - start) / count


def _ordinary(large: bytes) -> list[Step]:
    """What any filesystem does, in an empty directory."""
    pieces = LARGE_BYTES // PIECE_BYTES
    return [
        ("make a file", FILES, lambda at: _each(FILES, lambda number: (at / str(number)).write_bytes(BYTES))),
        ("stat", FILES, lambda at: _each(FILES, lambda number: os.stat(at / str(number)))),
        ("read a file", FILES, lambda at: _each(FILES, lambda number: (at / str(number)).read_bytes())),
        ("list a file", FILES, lambda at: [entry.stat() for entry in os.scandir(at)]),
        ("write and sync", SYNCS, _sync),
        ("write 1 MiB", pieces, lambda at: _write(at / "large", large)),
        ("read 1 MiB", pieces, lambda at: (at / "large").read_bytes()),
        ("remove a file", FILES, lambda at: _each(FILES, lambda number: (at / str(number)).unlink())),
    ]


def _checkpoints(number: int) -> list[Step]:
    """What only a volume does, at its top."""
    names = [f"{number}-{each}" for each in range(CHECKPOINTS)]

    def at_each(container: str, act: Callable[[Path], None]) -> Callable[[Path], object]:
        return lambda top: _each(CHECKPOINTS, lambda each: act(top / container / names[each]))

    return [
        ("snapshot", CHECKPOINTS, at_each(".snapshots", os.mkdir)),
        ("drop a snapshot", CHECKPOINTS, at_each(".snapshots", os.rmdir)),
        ("branch", CHECKPOINTS, at_each(".branches", os.mkdir)),
        ("drop a branch", CHECKPOINTS, at_each(".branches", os.rmdir)),
    ]


def _each(count: int, act: Callable[[int], object]) -> None:
    for number in range(count):
        act(number)


def _sync(directory: Path) -> None:
    with (directory / "synced").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(BYTES)
            os.fsync(file.fileno())


def _write(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(data), PIECE_BYTES):
            file.write(memoryview(data)[start : start + PIECE_BYTES])


def _cells(row: Row) -> tuple[str, ...]:
    if row.disk is None:
        return row.name, _short(row.mounted), "-", "-"
    return row.name, _short(row.mounted), _short(row.disk), f"{row.mounted / row.disk:.1f}"


def _short(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"
