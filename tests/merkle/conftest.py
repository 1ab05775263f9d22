"""Trees with small nodes, so that small maps have many levels."""

from collections.abc import Iterator

import pytest

from heliosfs.merkle import splitter

RULES = {
    "real": None,
    # Nodes of some 5 short entries.
    "small": (16, 128, 24),
    # No hash ever makes a boundary: what keys chosen with malice could come to.
    "forced": (16, 64, 1 << 40),
    # Every entry that may end a node does.
    "eager": (16, 64, 1),
}


@pytest.fixture(params=list(RULES))
def rule(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The splitter's rule, and again with other constants, for one test (all its examples)."""
    name: str = request.param
    constants = RULES[name]
    if constants:
        smallest, largest, spread = constants
        monkeypatch.setattr(splitter, "NODE_BYTES_MIN", smallest)
        monkeypatch.setattr(splitter, "NODE_BYTES_MAX", largest)
        monkeypatch.setattr(splitter, "_THRESHOLD", (1 << 64) // spread**2)
    yield name
