"""Three-way merge of sorted maps: which keys one side changed, and what the other has there.

Pure: it sees two differences against a common base, however they were made, and decides nothing about
conflicts. Its cost is that of the differences.
"""

from collections.abc import Iterable, Iterator

from heliosfs.merkle.difference import Difference

Divergence = tuple[bytes, bytes | None, bytes | None, bytes | None]
"""A key with its value in the base, in ours and in theirs, None where it has none."""


def divergences(ours: Iterable[Difference], theirs: Iterable[Difference]) -> Iterator[Divergence]:
    """All keys where theirs differs from the base, in order: (key, base, ours, theirs).

    `ours` and `theirs` are (key, in the base, there), in order of keys, for all keys that differ from the
    base. Ours equal to the base: only they changed it. Ours equal to theirs: both changed it alike.
    """
    changed = iter(ours)
    mine = next(changed, None)
    for key, base, their_value in theirs:
        while mine is not None and mine[0] < key:
            mine = next(changed, None)
        if mine is not None and mine[0] == key:
            yield key, base, mine[2], their_value
        else:
            yield key, base, base, their_value
