"""Items made one ahead in another thread: all of them, in order, bounded, and an end at any moment."""

import threading
from collections.abc import Generator

import pytest
import trio

from heliosfs.fuse.read_ahead import ReadAhead

PATIENCE_SECONDS = 120


class Source:
    def __init__(self, count: int, failing: bool = False) -> None:
        self.made = 0
        self.closed = threading.Event()
        self.threads: set[int] = set()
        self._count = count
        self._failing = failing

    def items(self) -> Generator[int, None, None]:
        try:
            for number in range(self._count):
                self.threads.add(threading.get_ident())
                self.made += 1
                yield number
            if self._failing:
                raise OSError(5, "cannot be read")
        finally:
            self.closed.set()


async def rest(reader: ReadAhead[int]) -> list[int]:
    found = []
    while (item := await reader.next()) is not None:
        found.append(item)
    return found


def test_all_items_come_in_order_from_another_thread() -> None:
    source = Source(100)
    reader = ReadAhead(source.items())
    assert trio.run(rest, reader) == list(range(100))
    reader.close()
    assert source.closed.wait(PATIENCE_SECONDS)
    assert len(source.threads) == 1 and threading.get_ident() not in source.threads


def test_what_the_generator_raises_comes_after_what_it_made() -> None:
    source = Source(3, failing=True)
    reader = ReadAhead(source.items())

    async def main() -> None:
        assert [await reader.next() for _ in range(3)] == [0, 1, 2]
        with pytest.raises(OSError):
            await reader.next()

    trio.run(main)
    reader.close()
    assert source.closed.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_it_ends_early_and_never_was_far_ahead(taken: int) -> None:
    source = Source(1000)
    reader = ReadAhead(source.items())

    async def main() -> None:
        for number in range(taken):
            assert await reader.next() == number

    trio.run(main)
    reader.close()
    assert source.closed.wait(PATIENCE_SECONDS)
    assert source.made <= taken + 3
