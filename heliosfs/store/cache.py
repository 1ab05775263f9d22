"""A bounded cache of byte strings, least recently used first out.

Holds only what was verified or just written; must never be the only place where bytes lie.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Data = TypeVar("Data", bound=bytes | memoryview)

ENTRY_BYTES = 200
"""What an entry costs beside its bytes: key, objects and the table's share."""


class ByteCache(Generic[Key, Data]):
    """A map of byte strings that forgets the longest unused beyond `capacity` bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[Key, Data] = OrderedDict()
        self._held = 0

    def get(self, key: Key) -> Data | None:
        """The bytes, or None; counts as a use."""
        data = self._entries.get(key)
        if data is not None:
            self._entries.move_to_end(key)
        return data

    def put(self, key: Key, data: Data) -> None:
        """Keep `data`, which was not there before, if it fits at all."""
        size = len(data) + ENTRY_BYTES
        if size > self._capacity:
            return
        entries = self._entries
        previous = entries.pop(key, None)
        if previous is not None:
            self._held -= len(previous) + ENTRY_BYTES
        entries[key] = data
        self._held += size
        while self._held > self._capacity:
            self._held -= len(entries.popitem(last=False)[1]) + ENTRY_BYTES

    def drop(self, key: Key) -> None:
        """Forget an entry, if there."""
        data = self._entries.pop(key, None)
        if data is not None:
            self._held -= len(data) + ENTRY_BYTES

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def held(self) -> int:
        """The bytes held, overhead included."""
        return self._held
