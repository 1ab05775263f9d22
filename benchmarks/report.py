"""What is printed of the results, and what the JSON file holds."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rounds import Result
from benchmarks.tree import Tree

SMALL_SECONDS = 2e-4
"""Operations quicker than this are told one by one, longer works as a whole."""


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def machine(directory: Path, tree: Tree) -> dict[str, Any]:
    """What the figures depend on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "processor": model,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "filesystem": filesystem(directory),
        "tree": {"files": tree.files, "bytes": tree.size},
    }


def filesystem(directory: Path) -> str:
    """The type of the filesystem that a directory is on."""
    best = ("", "")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mountpoint = before.split()[4]
        inside = directory == Path(mountpoint) or Path(mountpoint) in directory.parents
        if inside and len(mountpoint) >= len(best[0]):
            best = (mountpoint, after.split()[0])
    return best[1]


class Table:
    """Medians of all works and places."""

    def __init__(self, results: Iterable[Result], works: Sequence[str], places: Sequence[str]) -> None:
        self._by: dict[tuple[str, str], list[Result]] = {}
        for result in results:
            self._by.setdefault((result.work, result.place), []).append(result)
        self._works = [work for work in works if any((work, place) in self._by for place in places)]
        self._places = list(places)

    def median(self, work: str, place: str) -> float | None:
        """Seconds of one operation."""
        results = self._by.get((work, place), [])
        each = [one for result in results for one in result.sample.each]
        each = each or [result.sample.seconds / result.sample.operations for result in results]
        return statistics.median(each) if each else None

    def rows(self, ours: str = "heliosfs") -> list[list[str]]:
        """One row for each work, the heads first: times, our ratio to each other place, requests per operation."""
        others = [place for place in self._places if place != ours]
        heads = ["work", *self._places, *(f"/ {place}" for place in others if ours in self._places)]
        rows = [[*heads, "spread", "requests"]]
        for work in self._works:
            own = self.median(work, ours)
            ratios = [_ratio(own, self.median(work, place)) for place in others if ours in self._places]
            cells = [self._time(work, place) for place in self._places]
            rows.append([work, *cells, *ratios, self._spread(work, ours), self._requests(work, ours)])
        return rows

    def comparison(self, work: str, other: str, ours: str = "heliosfs") -> str:
        """How two works on the same place compare; empty where one of them was not done."""
        ratio = _ratio(self.median(work, ours), self.median(other, ours))
        return "" if ratio == "-" else f"{work}: {ratio} x {other}"

    def _time(self, work: str, place: str) -> str:
        results = self._by.get((work, place))
        if not results:
            return "-"
        seconds = statistics.median(result.sample.seconds for result in results)
        first = results[0].sample
        if first.each:
            each = [one for result in results for one in result.sample.each]
            return f"{_short(quantile(each, 0.5))} (p95 {_short(quantile(each, 0.95))})"
        if first.size:
            return f"{first.size / seconds / 1e6:.0f} MB/s"
        if self._is_small(work):
            return _short(seconds / first.operations)
        return _short(seconds)

    def _is_small(self, work: str) -> bool:
        """Whether the time of one operation says more than that of the whole; the same for all places."""
        results = [result for place in self._places for result in self._by.get((work, place), [])]
        medians = [self.median(work, place) for place in self._places]
        quickest = min(median for median in medians if median is not None)
        return max(result.sample.operations for result in results) > 1 and quickest < SMALL_SECONDS

    def _spread(self, work: str, place: str) -> str:
        """How far the rounds lie apart: the least and the greatest, as shares of the median."""
        seconds = [result.sample.seconds for result in self._by.get((work, place), [])]
        if not seconds:
            return "-"
        middle = statistics.median(seconds)
        return f"{min(seconds) / middle:.2f}-{max(seconds) / middle:.2f}"

    def _requests(self, work: str, place: str) -> str:
        counted = [result for result in self._by.get((work, place), []) if result.requests is not None]
        if not counted:
            return "-"
        each = [sum((result.requests or {}).values()) / result.sample.operations for result in counted]
        return f"{statistics.median(each):.2f}"


def _ratio(ours: float | None, theirs: float | None) -> str:
    return "-" if ours is None or not theirs else f"{ours / theirs:.2f}"


def _short(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def text(rows: list[list[str]]) -> str:
    """The rows as columns for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(rows: list[list[str]]) -> str:
    """The same for a document."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)


def write_json(path: Path, about: dict[str, Any], results: Iterable[Result]) -> None:
    """Everything that was measured."""
    runs = [{**result._asdict(), "sample": result.sample._asdict()} for result in results]
    path.write_text(json.dumps({"machine": about, "runs": runs}, indent=1))
