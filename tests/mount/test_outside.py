"""export and apply: what goes out of a mount is whole, and nothing outside is overwritten that has changed there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import facts, mount_only
from .volumes import MountedVolume, heliosfs

pytestmark = mount_only


@pytest.fixture
def imported(tree: Path, source: Path) -> Path:
    heliosfs("import", source, tree / "in")
    return tree / "in"


@pytest.fixture
def branch(volume: MountedVolume, imported: Path) -> Iterator[Path]:
    """The imported directory in a branch."""
    heliosfs("branch", "create", volume.path, "work")
    yield volume.path / ".branches" / "work" / imported.relative_to(volume.path)
    heliosfs("branch", "delete", volume.path, "work")


def test_export_keeps_everything(volume: MountedVolume, imported: Path, source: Path, tmp_path: Path) -> None:
    place = imported.relative_to(volume.path)
    heliosfs("snapshot", "create", volume.path, "s")
    expected = facts(source)
    (imported / "d" / "small").write_text("later")
    for number, (state, mine) in enumerate((("s", expected), ("now", facts(imported)), ("op:999", None))):
        target = tmp_path / str(number)
        if mine is None:
            assert "no operation 999" in heliosfs("export", volume.path, state, target, status=1)
            assert not target.exists()
            continue
        heliosfs("export", volume.path, state, target)
        assert facts(target / place) == mine
        assert (target / place / "sparse").stat().st_blocks <= 4096
    assert json.loads(heliosfs("snapshot", "list", volume.path, "--auto", "--json")) is not None
    assert not [name for name in os.listdir(volume.path / ".snapshots" / ".auto") if "-" in name[20:]]
    assert "not an empty directory" in heliosfs("export", volume.path, "s", tmp_path / "0", status=1)
    assert "in the mount itself" in heliosfs("export", volume.path, "s", volume.path / "x", status=1)
    assert "no directory" in heliosfs("export", volume.path, "s", tmp_path / "no" / "x", status=1)
    heliosfs("snapshot", "delete", volume.path, "s")


def change(branch: Path) -> None:
    (branch / "d" / "small").write_text("changed")
    (branch / "d" / "medium").unlink()
    (branch / "d" / "deep" / "big").rename(branch / "moved")
    (branch / "link").unlink()
    (branch / "link").mkdir()
    (branch / "link" / "new").write_text("new")
    (branch / "fifo").unlink()
    (branch / "fifo").write_text("a file now")
    (branch / "empty").rmdir()
    os.setxattr(branch / "d", "user.y", b"2")


def test_apply_writes_what_changed(volume: MountedVolume, branch: Path, source: Path) -> None:
    before = facts(source)
    change(branch)
    dry = heliosfs("apply", volume.path, "work", "--onto", source, "--dry-run")
    assert "D " in dry and facts(source) == before
    (source / "mine").write_text("not known to the branch, and not in its way")
    shown = heliosfs("apply", volume.path, "work", "--onto", source)
    assert shown == dry
    (source / "mine").unlink()
    assert facts(source) == facts(branch)
    assert heliosfs("apply", volume.path, "work", "--onto", source) == ""
    (branch / "d" / "small").write_text("once more")
    assert heliosfs("apply", volume.path, "work", "--onto", source).count("M ") == 2
    assert facts(source) == facts(branch)


def test_apply_overwrites_nothing_that_changed(volume: MountedVolume, branch: Path, source: Path) -> None:
    change(branch)
    (source / "d" / "small").write_text("theirs!")
    (source / "d" / "medium").chmod(0o600)
    (source / "empty" / "new").touch()
    before = facts(source)
    said = heliosfs("apply", volume.path, "work", "--onto", source, status=1)
    assert all(f"  {name}\n" in said for name in ("d/small", "d/deep/linked", "d/medium", "empty/new"))
    assert "moved" not in said and facts(source) == before
    assert "was not imported" in heliosfs("apply", volume.path, "work", "--onto", source / "d", status=1)
    assert "no branch named" in heliosfs("apply", volume.path, "none", "--onto", source, status=1)
    assert "no directory" in heliosfs("apply", volume.path, "work", "--onto", source / "link" / "x", status=1)
