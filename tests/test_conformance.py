"""scripts/conformance with a stand-in for pjdfstest: what it makes of results. It needs no mount."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mount.support import root_only, tool

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "conformance"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A checkout of which unlink/08.t has the one case that is listed in docs/conformance.md as failing."""
    tool("openssl")
    checkout = tmp_path / "suite"
    for directory in ("link", "open", "unlink"):
        (checkout / "tests" / directory).mkdir(parents=True)
    shutil.copy(tool("true"), checkout / "pjdfstest")
    write(checkout, "link/00.t", "1..2", "ok 1", "ok 2 # TODO something")
    write(checkout, "open/00.t", "1..1", "ok 1")
    write(checkout, "unlink/08.t", "1..3", "ok 1", "not ok 2 # TODO something", "ok 3")
    return checkout


def write(checkout: Path, name: str, *lines: str) -> None:
    script = "".join(f"echo '{line}'\n" for line in lines)
    (checkout / "tests" / name).write_text(script)


def judge(suite: Path, *words: str) -> tuple[int, list[str]]:
    result = subprocess.run(
        [sys.executable, SCRIPT, suite, *words, "--directory", suite.parent],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.stderr == ""
    return result.returncode, result.stdout.splitlines()


@root_only
def test_what_is_listed_may_fail(suite: Path) -> None:
    status, output = judge(suite)
    assert status == 0
    assert output == [
        "3 files, 1 of them not for this system",
        "4 cases passed, 1 failed; 0 not as listed in docs/conformance.md",
    ]


@root_only
@pytest.mark.parametrize(
    ("name", "lines", "told"),
    [
        ("link/00.t", ["1..1", "not ok 1 - tried"], "link/00.t 1: FAILED: tried"),
        ("link/00.t", ["1..3", "ok 1"], "link/00.t 2: FAILED: ended after 1 of 3 cases"),
        ("link/00.t", [], "link/00.t 1: FAILED: ended after 0 of 0 cases"),
        ("unlink/08.t", ["1..2", "ok 1", "ok 2"], "unlink/08.t 2: passed, though it is listed: "),
    ],
)
def test_what_is_not_listed_is_told(suite: Path, name: str, lines: list[str], told: str) -> None:
    write(suite, name, *lines)
    status, output = judge(suite, name)
    assert (status, output[0]) == (1, told)
    assert output[-1].endswith("1 not as listed in docs/conformance.md")
