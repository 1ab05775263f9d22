"""A file replaced by rename, again and again: whoever reads it finds one whole version, always."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from .support import Child

ROUNDS = 400

WRITER = """
import os, random, sys
choose = random.Random(1)
input()
for number in range(1, ROUNDS + 1):
    with open("new", "wb") as file:
        line = b"%08d\\n" % number
        file.write(line * choose.choice((1, 10, 500, 3000, 20000)))
    os.rename("new", "file")
""".replace("ROUNDS", str(ROUNDS))

READER = """
import mmap, os, sys
how = sys.argv[1]
last = reads = 0
print("ready", flush=True)
input()
while last < ROUNDS:
    if how == "stat":
        size = os.stat("file").st_size
        assert size > 0 and size % 9 == 0, f"a size of {size}"
    with open("file", "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if how == "mmap":
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
                content = bytes(mapping)
        elif how == "pieces":
            content = b"".join(iter(lambda: file.read(5000), b""))
        else:
            content = file.read()
    number = int(content[:8])
    assert len(content) == size, f"{len(content)} bytes of {size}"
    assert content == content[:9] * (size // 9), f"mixed content around version {number}"
    assert number >= last, f"version {number} after {last}"
    last = number
    reads += 1
print(reads)
""".replace("ROUNDS", str(ROUNDS))


@pytest.mark.parametrize("how", ["whole", "pieces", "mmap", "stat"])
def test_readers_find_whole_versions(tree: Path, how: str) -> None:
    (tree / "file").write_bytes(b"%08d\n" % 0)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Child(READER, how, cwd=tree)) for _ in range(2)]
        writer = stack.enter_context(Child(WRITER, cwd=tree))
        for reader in readers:
            assert reader.hear() == "ready"
        for child in (*readers, writer):
            child.say("go")
        writer.finish()
        assert all(int(reader.finish()) > 0 for reader in readers)


def test_a_name_that_is_replaced_always_exists(tree: Path) -> None:
    """By link and rename in turn, as version control and package managers replace files."""
    source = """
import os
print("ready", flush=True)
input()
seen = 0
while not os.path.exists("stop"):
    assert os.lstat("file").st_nlink >= 0
    with open("file") as file:
        assert file.read() in ("one", "two")
    assert "file" in os.listdir(".")
    seen += 1
print(seen)
"""
    (tree / "file").write_text("one")
    with Child(source, cwd=tree) as reader:
        assert reader.hear() == "ready"
        reader.say("go")
        for number in range(300):
            (tree / "new").write_text("two" if number % 2 else "one")
            (tree / "new").rename(tree / "file")
        (tree / "stop").touch()
        assert int(reader.finish()) >= 0
