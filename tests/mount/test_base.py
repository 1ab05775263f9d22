"""mount --base on a real mount: an existing directory, at once and without a change to it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

from .support import facts, fails, mount_only, opened, wait_until
from .volumes import MountedVolume, heliosfs, scratch_directory

pytestmark = mount_only


def left(volume: MountedVolume) -> dict[str, object]:
    found: dict[str, object] = json.loads(heliosfs("status", volume.path, "--json"))["base"]
    return found


def test_a_directory_is_there_at_once_and_is_no_longer_needed_in_the_end(source: Path) -> None:
    before = facts(source)
    links = {path for path, each in before.items() if each[4] > 1}
    with scratch_directory() as base:
        volume = MountedVolume(base)
        try:
            volume.mount("--base", str(source))
            heliosfs("snapshot", "create", volume.path, "first")
            shown = facts(volume.path)
            assert {path: each[:4] for path, each in shown.items()} == {path: each[:4] for path, each in before.items()}
            assert all(shown[path] == before[path] for path in before.keys() - links)
            (volume.path / "d" / "small").write_text("changed")
            assert heliosfs("diff", volume.path, "first", "--names") == "M\td/small\n"
            heliosfs("restore", volume.path, "first", "--", "d/small")
            heliosfs("branch", "create", volume.path, "work")
            (volume.path / ".branches" / "work" / "d" / "medium").write_text("by the branch")
            assert facts(source) == before
            heliosfs("apply", volume.path, "work", "--onto", source)
            assert (source / "d" / "medium").read_text() == "by the branch"
            assert (volume.path / "d" / "medium").read_bytes() == before["d/medium"][5][0]
            volume.kill()
            volume.mount()
            wait_until(lambda: not left(volume)["needed"])
            assert "no longer needed" in heliosfs("status", volume.path)
            shutil.rmtree(source)
            assert facts(volume.path / ".snapshots" / "first") == shown
            volume.unmount()
            volume.fsck()
        finally:
            volume.close()


def test_what_cannot_be_a_base(tmp_path: Path) -> None:
    with scratch_directory() as base:
        volume = MountedVolume(base)
        try:
            volume.mount()
            arguments = ("mount", base / "other", tmp_path, "--base")
            assert "in it; choose one outside" in heliosfs(*arguments, tmp_path, status=1)
            assert "no directory" in heliosfs(*arguments, tmp_path / "none", status=1)
            assert not (base / "other").exists()
            volume.unmount()
            said = heliosfs("mount", volume.store, volume.path, "--base", tmp_path, status=1)
            assert "has a volume already" in said
        finally:
            volume.close()


def test_a_file_that_changed_first_is_stale_and_named(tmp_path: Path) -> None:
    big = tmp_path / "big"
    with open(big, "wb") as file:
        file.truncate(1 << 40)  # this is not taken in while the test runs
    (tmp_path / "small").write_text("small")
    with scratch_directory() as base:
        volume = MountedVolume(base)
        try:
            volume.mount("--base", str(tmp_path))
            with opened(volume.path / "big") as file:
                assert os.pread(file, 10, (1 << 40) - 5) == bytes(5)
                with open(big, "ab") as there:
                    there.write(b"more")
                with fails(errno.ESTALE):
                    os.pread(file, 10, 1 << 39)
            wait_until(lambda: left(volume)["files_left"] == 1)
            found = left(volume)
            assert found["needed"] and found["changed"] == {"big": "it has changed"}
            assert "big: it has changed" in heliosfs("status", volume.path)
            assert (volume.path / "small").read_text() == "small"
            volume.unmount()
            volume.fsck()
        finally:
            volume.close()
