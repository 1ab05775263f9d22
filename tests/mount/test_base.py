"""mount --base on a real mount: an existing directory, at once and without a change to it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .patient import GO
from .support import facts, fails, mount_only, opened, wait_until
from .volumes import MountedVolume, heliosfs, scratch_directory

pytestmark = mount_only


def left(volume: MountedVolume) -> dict[str, object]:
    found: dict[str, object] = json.loads(heliosfs("status", volume.path, "--json"))["base"]
    return found


def test_a_directory_is_there_at_once_and_is_no_longer_needed_in_the_end(source: Path) -> None:
    before = facts(source)
    with scratch_directory() as base:
        volume = MountedVolume(base)
        try:
            volume.mount("--base", str(source))
            heliosfs("snapshot", "create", volume.path, "first")
            shown = facts(volume.path)
            assert shown == before
            assert os.stat(volume.path / "sparse").st_blocks < os.stat(volume.path / "sparse").st_size // 512 // 4
            (volume.path / "d" / "small").write_text("changed")
            assert heliosfs("diff", volume.path, "first", "--names") == "M\td/deep/linked\nM\td/small\n"
            heliosfs("restore", volume.path, "first", "--", "d")
            heliosfs("branch", "create", volume.path, "work")
            (volume.path / ".branches" / "work" / "d" / "medium").write_text("by the branch")
            assert facts(source) == before
            numbers = {(volume.path / "d" / name).stat().st_ino for name in ("small", "deep/linked")}
            assert len(numbers) == 1
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


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MountedVolume]:
    """A volume that takes nothing in by itself until the file `go` is beside the base."""
    monkeypatch.setenv(GO, str(tmp_path / "go"))
    with scratch_directory() as base:
        volume = MountedVolume(base)
        volume.module = "tests.mount.patient"
        try:
            yield volume
        finally:
            volume.close()


def test_a_file_that_changed_first_is_stale_and_named(tmp_path: Path, patient: MountedVolume) -> None:
    there = tmp_path / "base"
    (there / "d").mkdir(parents=True)
    (there / "big").write_bytes(b"b" * 3_000_000)
    (there / "small").write_text("small")
    patient.mount("--base", str(there))
    with opened(patient.path / "big") as file:
        assert os.pread(file, 10, 5) == b"b" * 10
        with open(there / "big", "ab") as changed:
            changed.write(b"more")
        with fails(errno.ESTALE):
            os.pread(file, 10, 2_000_000)
    (there / "d" / "new").touch()
    with fails(errno.ESTALE):
        os.listdir(patient.path / "d")
    (tmp_path / "go").touch()
    wait_until(lambda: left(patient)["files_left"] == 1)
    found = left(patient)
    assert found["needed"] and found["changed"] == {"big": "it has changed", "d": "it has changed"}
    assert "big: it has changed" in heliosfs("status", patient.path)
    assert (patient.path / "small").read_text() == "small"
    patient.unmount()
    patient.fsck()


def test_all_works_while_next_to_nothing_was_taken_in(tmp_path: Path, patient: MountedVolume) -> None:
    there = tmp_path / "base"
    for number in range(300):
        (there / f"d{number % 10}").mkdir(parents=True, exist_ok=True)
        (there / f"d{number % 10}" / f"f{number}").write_text(f"{number}\n" * 200)
    (there / "line").write_text("one\ntwo\n")
    patient.mount("--base", str(there))
    mount = patient.path
    assert left(patient)["directories_left"] in (1, 10)
    heliosfs("snapshot", "create", mount, "first")
    heliosfs("branch", "create", mount, "work")
    work = mount / ".branches" / "work"
    (work / "line").write_text("one\n2\n")
    (work / "d3" / "f3").rename(work / "d4" / "moved")
    (mount / "d5" / "f5").write_text("here")
    assert heliosfs("diff", mount, "first", "--names") == "M\td5/f5\n"
    heliosfs("merge", mount, "work")
    names = heliosfs("diff", mount, "first", "--names").splitlines()
    assert names == ["R\td3/f3\td4/moved", "M\td5/f5", "M\tline"]
    heliosfs("apply", mount, ".", "--onto", there)
    assert (there / "line").read_text() == "one\n2\n" and not (there / "d3" / "f3").exists()
    assert (there / "d5" / "f5").read_text() == "here" and (there / "d4" / "moved").read_text() == "3\n" * 200
    heliosfs("restore", mount, "first")
    assert (mount / "line").read_text() == "one\ntwo\n" and (mount / "d3" / "f3").read_text() == "3\n" * 200
    found = left(patient)
    assert found["needed"] and found["directories_left"] == 7, "nothing was read that nobody asked for"
    patient.kill()
    (tmp_path / "go").touch()
    patient.mount()
    for number in (0, 3, 299):
        assert (mount / f"d{number % 10}" / f"f{number}").read_text() == f"{number}\n" * 200
    patient.unmount()
    patient.fsck()


def test_a_base_of_many_files(tmp_path: Path) -> None:
    there = tmp_path / "base"
    for number in range(1_500):
        if number % 150 == 0:
            (there / f"d{number // 150}").mkdir(parents=True)
        (there / f"d{number // 150}" / f"f{number}").write_text(f"{number}\n" * (number % 90))
    with scratch_directory() as base:
        volume = MountedVolume(base)
        try:
            volume.mount("--base", str(there))
            assert (volume.path / "d9" / "f1499").read_text() == "1499\n" * 59
            volume.kill()
            volume.mount()
            heliosfs("snapshot", "create", volume.path, "early")
            wait_until(lambda: not left(volume)["needed"])
            shutil.rmtree(there)
            for root in (volume.path, volume.path / ".snapshots" / "early"):
                found = {path.name: path.read_text() for path in root.rglob("f*")}
                assert found == {f"f{number}": f"{number}\n" * (number % 90) for number in range(1_500)}
            volume.unmount()
            volume.fsck()
        finally:
            volume.close()
