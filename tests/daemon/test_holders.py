"""Who keeps a mount busy. Any directory stands for a mountpoint here: only paths are compared."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heliosfs.daemon.holders import all_with_open, has_open, holders


@contextmanager
def child(program: str, directory: Path) -> Iterator[int]:
    """A process that has done what the program says, and stays."""
    with subprocess.Popen(
        [sys.executable, "-c", program + "\nprint('there', flush=True)\nsys.stdin.read()"],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        yield process.pid
        process.communicate()


CHANGE_DIRECTORY = "import sys, os; os.chdir('tree')"
OPEN = "import sys; file = open('tree/file')"
MAP = """
import ctypes, sys
with open('tree/file') as file:
    assert ctypes.CDLL(None).mmap(None, 1, 1, 1, file.fileno(), 0) != -1
"""


@pytest.mark.parametrize(
    ("program", "how"),
    [(CHANGE_DIRECTORY, "working directory {tree}"), (OPEN, "open {tree}/file"), (MAP, "mapped {tree}/file")],
)
def test_each_way_of_holding(tmp_path: Path, program: str, how: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    with child(program, tmp_path) as pid:
        found = [holder for holder in holders(str(tree)) if holder.pid == pid]
        assert [holder.how for holder in found] == [how.format(tree=tree)]
        assert found[0].command.startswith("python")


def test_a_neighbour_is_no_holder(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree-2").mkdir()
    with child("import sys", tmp_path / "tree-2") as pid:
        assert pid not in [holder.pid for holder in holders(str(tmp_path / "tree"))]


def test_who_has_a_file_open(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with open(path, "w"):
        assert has_open(os.getpid(), path)
        assert all_with_open(path) == [os.getpid()]
    assert not has_open(os.getpid(), path)
    assert all_with_open(path) == []
