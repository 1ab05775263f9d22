"""A long comparison lets requests in, and shows the states as they were when it began."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from heliosfs.fuse import comparing, stepwise
from heliosfs.fuse.comparing import Comparing
from heliosfs.fuse.rights import Requester
from heliosfs.volume.volume import Volume
from tests.volume.trees import CALLER, put


class Served:
    """Requests that come while something else is going on."""

    def __init__(self, volume: Volume) -> None:
        self.count = 0
        self._volume = volume

    async def serve(self) -> None:
        while True:
            self.count += 1
            put(self._volume.main.view, b"d/f%d" % (self.count % 50), b"by request %d\n" % self.count)
            if self.count % 7 == 0:
                self._volume.flush()
            if self._volume.dirty():
                self._volume.step()
            await trio.lowlevel.checkpoint()


@pytest.fixture
def small_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepwise, "TURN_NANOSECONDS", 0)
    monkeypatch.setattr(comparing, "AT_ONCE_NANOSECONDS", 0)


def compare(volume: Volume, verb: str, arguments: dict[str, Any]) -> tuple[Any, int]:
    """What a verb says, and how many requests were served meanwhile."""
    verbs = Comparing(volume, SimpleNamespace(), SimpleNamespace(mappable=False))  # type: ignore[arg-type]
    tree: Any = SimpleNamespace(root=volume.main.view.root, owner=lambda: volume.main)
    requester = Requester(0, 0, 1)
    served = Served(volume)

    async def run() -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.serve)
            result = await getattr(verbs, verb)(tree, arguments, requester)
            nursery.cancel_scope.cancel()
        return result

    return trio.run(run), served.count


@pytest.mark.parametrize("form", ["patch", "stat", "names", "json"])
def test_requests_are_served_during_a_diff(volume: Volume, small_turns: None, form: str) -> None:
    for number in range(50):
        put(volume.main.view, b"d/f%d" % number, b"one\ntwo\n")
    volume.snapshot(volume.main, b"before", CALLER)
    for number in range(50):
        put(volume.main.view, b"d/f%d" % number, b"one\n2\n")
    said, served = compare(volume, "diff", {"a": "before", "form": form})
    assert served > 4
    text = said if form != "json" else said["diff"]
    assert text.count("d/f") >= 50 and "by request" not in text
    if form == "patch":
        assert text.count("-two\n+2\n") == 50
    assert not volume.registry._held


def test_a_short_diff_freezes_nothing(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "AT_ONCE_NANOSECONDS", 1 << 40)
    put(volume.main.view, b"f", b"one\n")
    volume.snapshot(volume.main, b"before", CALLER)
    put(volume.main.view, b"f", b"two\n")
    top = volume.main.view.top
    said, _ = compare(volume, "changes", {"a": "before"})
    assert next(each["path"] for each in said) == "f" and volume.main.view.top is top


def test_one_text_that_has_changed_throughout(volume: Volume, small_turns: None) -> None:
    put(volume.main.view, b"big", b"".join(b"line %d\n" % number for number in range(3_000)))
    volume.snapshot(volume.main, b"before", CALLER)
    put(volume.main.view, b"big", b"".join(b"line %d\n" % (number * 7 % 3_001) for number in range(3_000)))
    said, served = compare(volume, "diff", {"a": "before", "paths": ["big"]})
    assert served > 5 and said.startswith("diff --git a/big b/big")
