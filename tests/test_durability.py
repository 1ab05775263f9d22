"""docs/durability.md promises nothing without a test."""

import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (TOP / "docs" / "durability.md").read_text())
    assert len(named) > 25
    for file, test in named:
        assert f"def {test}(" in (TOP / file).read_text(), f"{file}::{test}"
