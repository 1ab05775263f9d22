"""The README's first command, as a newcomer runs it, and once more over what it left."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.mount.support import mount_only

REPOSITORY = Path(__file__).parents[1]
COMMAND_TIMEOUT_SECONDS = 900

pytestmark = [
    mount_only,
    pytest.mark.skipif(
        not (REPOSITORY / ".venv" / "bin" / "heliosfs").exists(), reason="scripts/setup made no .venv here"
    ),
]


def run(*command: str | Path) -> str:
    done = subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=COMMAND_TIMEOUT_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_quickstart_can_be_run_again_and_again(tmp_path: Path) -> None:
    directory = tmp_path / "quickstart"
    heliosfs = REPOSITORY / ".venv" / "bin" / "heliosfs"
    try:
        for _ in range(2):
            shown = run(REPOSITORY / "scripts" / "quickstart", directory)
            assert "the tree is as it was" in shown
            assert os.path.ismount(directory / "tree")
    finally:
        run(heliosfs, "umount", directory / "tree")
    assert "no problems" in run(heliosfs, "fsck", directory / "store")
