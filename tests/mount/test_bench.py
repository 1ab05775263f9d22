"""heliosfs bench mounts, measures and leaves nothing behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .support import mount_only
from .volumes import heliosfs

pytestmark = mount_only


def test_bench_measures_and_cleans_up(tmp_path: Path) -> None:
    found = json.loads(heliosfs("bench", tmp_path, "--rounds", "1", "--json"))
    assert os.listdir(tmp_path) == []
    assert all(row["mounted"] > 0 for row in found["seconds"])
    beside = {row["name"] for row in found["seconds"] if row["disk"] is not None}
    assert {row["name"] for row in found["seconds"]} - beside == {
        "snapshot", "drop a snapshot", "branch", "drop a branch",
    }  # fmt: skip
    assert "fast_loop" in found["features"]
