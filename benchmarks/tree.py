"""The tree that the works are done with: Python's standard library, about 2400 files, as a tar file."""

from __future__ import annotations

import sysconfig
import tarfile
from pathlib import Path
from typing import Final, NamedTuple

LEFT_OUT_DIRECTORIES: Final = {"__pycache__", "site-packages", "dist-packages"}
LEFT_OUT_SUFFIXES: Final = {".pyc", ".so", ".a"}
"""What depends on how this Python was built; the sources are much the same everywhere."""


class Tree(NamedTuple):
    """The tar file and what is in it; everything lies below a directory `py`."""

    archive: Path
    files: int
    size: int


def pack(archive: Path) -> Tree:
    """Make the tar file."""
    top = Path(sysconfig.get_path("stdlib"))
    files = size = 0
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(top.rglob("*")):
            relative = path.relative_to(top)
            if LEFT_OUT_DIRECTORIES & set(relative.parts) or path.suffix in LEFT_OUT_SUFFIXES or path.is_symlink():
                continue
            tar.add(path, Path("py") / relative, recursive=False)
            if path.is_file():
                files += 1
                size += path.stat().st_size
    return Tree(archive, files, size)
