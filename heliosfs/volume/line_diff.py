"""Which lines of two texts are the same ones: the heart of a unified diff and of a merge.

Myers' greedy algorithm finds the shortest script, in time proportional to the length times the number of
differences. Where there are too many, lines that occur once in both texts (as in a "patience" diff) split the
problem; what has none is taken as replaced. So the time is bounded whatever the input is, and small changes of
large files are exact.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import isqrt

from heliosfs.base.steps import Steps, finish

Block = tuple[int, int, int]
"""(index in the old lines, index in the new lines, how many are the same from there on)."""

DIFFERENCES_MAX = 600
"""The longest script that is looked for at once: some 0.2 s and 3 MB."""

_STEP_WORK = 20_000
"""Points of a script that are looked at in one step: some 5 ms."""

WORK_MAX = 600_000
"""Steps spent on one pair of texts beyond what is proportional to their length: about 1 s."""


def matching_blocks(old: Sequence[bytes], new: Sequence[bytes]) -> list[Block]:
    """The lines that both have, in order, adjacent ones joined."""
    return finish(matching_in_steps(old, new))


def matching_in_steps(old: Sequence[bytes], new: Sequence[bytes]) -> Steps[list[Block]]:
    """The same in steps."""
    numbers: dict[bytes, int] = {}
    left = [numbers.setdefault(line, len(numbers)) for line in old]
    right = [numbers.setdefault(line, len(numbers)) for line in new]
    found: list[Block] = []
    pending = [(0, len(left), 0, len(right))]
    work = WORK_MAX + len(left) + len(right)
    while pending:
        low, high, start, end = pending.pop()
        before = _common_prefix(left, right, low, high, start, end)
        found.append((low, start, before))
        low, start = low + before, start + before
        after = _common_suffix(left, right, low, high, start, end)
        high, end = high - after, end - after
        found.append((high, end, after))
        if low == high or start == end or work < 0:
            continue
        limit = min(DIFFERENCES_MAX, isqrt(work))
        yield
        blocks = yield from _shortest(left[low:high], right[start:end], limit)
        if blocks is not None:
            found.extend((low + i, start + j, count) for i, j, count in blocks)
            differences = high - low + end - start - 2 * sum(count for _, _, count in blocks)
            work -= differences * differences // 2
            continue
        work -= limit * limit // 2 + high - low + end - start
        anchors = _anchors(left, right, low, high, start, end)
        edges = [(low, start), *anchors, (high, end)] if anchors else []
        for (i, j), (following, other) in pairwise(edges):
            pending.append((i, following, j, other))
    return _joined(found)


def _common_prefix(left: list[int], right: list[int], low: int, high: int, start: int, end: int) -> int:
    most = min(high - low, end - start)
    count = 0
    while count < most and left[low + count] == right[start + count]:
        count += 1
    return count


def _common_suffix(left: list[int], right: list[int], low: int, high: int, start: int, end: int) -> int:
    most = min(high - low, end - start)
    count = 0
    while count < most and left[high - 1 - count] == right[end - 1 - count]:
        count += 1
    return count


def shortest(left: Sequence[int], right: Sequence[int], limit: int = DIFFERENCES_MAX) -> list[Block] | None:
    """The blocks of the shortest script, None when it has more than `limit` lines."""
    return finish(_shortest(left, right, limit))


def _shortest(left: Sequence[int], right: Sequence[int], limit: int) -> Steps[list[Block] | None]:
    rows, columns = len(left), len(right)
    if abs(rows - columns) > limit:
        return None
    furthest = {1: 0}
    history: list[dict[int, int]] = []
    work = 0
    for differences in range(min(rows + columns, limit) + 1):
        work += differences
        if work > _STEP_WORK:
            work = 0
            yield
        history.append(furthest.copy() if differences else {1: 0})
        for diagonal in range(-differences, differences + 1, 2):
            down = diagonal == -differences or (
                diagonal != differences and furthest[diagonal - 1] < furthest[diagonal + 1]
            )
            x = furthest[diagonal + 1] if down else furthest[diagonal - 1] + 1
            y = x - diagonal
            while x < rows and y < columns and left[x] == right[y]:
                x += 1
                y += 1
            furthest[diagonal] = x
            if x >= rows and y >= columns:
                return _trace(history, rows, columns)
    return None


def _trace(history: list[dict[int, int]], x: int, y: int) -> list[Block]:
    """The way back through the furthest points of each number of differences."""
    found: list[Block] = []
    for differences in range(len(history) - 1, -1, -1):
        furthest = history[differences]
        diagonal = x - y
        down = diagonal == -differences or (diagonal != differences and furthest[diagonal - 1] < furthest[diagonal + 1])
        from_x = furthest[diagonal + 1] if down else furthest[diagonal - 1]
        begin = from_x if down else from_x + 1
        if differences == 0:
            begin = 0
        found.append((begin, begin - diagonal, x - begin))
        x, y = from_x, from_x - (diagonal + 1 if down else diagonal - 1)
    return found


def _anchors(left: list[int], right: list[int], low: int, high: int, start: int, end: int) -> list[tuple[int, int]]:
    """Lines that occur once in each part, the longest run of them that is in order in both."""
    counts, others = Counter(left[low:high]), Counter(right[start:end])
    places = {right[j]: j for j in range(start, end) if others[right[j]] == 1}
    pairs = [(i, places[left[i]]) for i in range(low, high) if counts[left[i]] == 1 and left[i] in places]
    return _longest_increasing(pairs)


def _longest_increasing(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    tails: list[int] = []
    ends: list[int] = []
    previous: list[int] = []
    for index, (_, j) in enumerate(pairs):
        at = bisect_left(tails, j)
        previous.append(ends[at - 1] if at else -1)
        if at == len(tails):
            tails.append(j)
            ends.append(index)
        else:
            tails[at], ends[at] = j, index
    found: list[tuple[int, int]] = []
    at = ends[-1] if ends else -1
    while at >= 0:
        found.append(pairs[at])
        at = previous[at]
    return found[::-1]


def _joined(blocks: list[Block]) -> list[Block]:
    found: list[Block] = []
    for i, j, count in sorted(block for block in blocks if block[2]):
        if found and found[-1][0] + found[-1][2] == i and found[-1][1] + found[-1][2] == j:
            found[-1] = (found[-1][0], found[-1][1], found[-1][2] + count)
        else:
            found.append((i, j, count))
    return found
