"""Each command: what it asks the daemon, what it prints."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import shell_complete

from heliosfs.cli import main
from heliosfs.daemon import mounts

from .conftest import Fake, Run

NANOSECONDS = 1_000_000_000
MOMENT = 1_700_000_000 * NANOSECONDS
MOMENT_TEXT = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1_700_000_000))
NOBODY_KNOWS = 4_000_000_000

MEMBER = {"name": "a", "created": MOMENT, "uid": NOBODY_KNOWS}
CONTROL_NAME = {"name": "a\n", "created": MOMENT, "uid": NOBODY_KNOWS}


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("snapshot create /m x", [("snapshot.create", {"name": "x"})]),
        ("snapshot list /m", [("snapshot.list", {})]),
        ("snapshot show /m x", [("snapshot.show", {"name": "x"})]),
        ("snapshot rename /m x y", [("snapshot.rename", {"old": "x", "new": "y"})]),
        ("snapshot delete /m x y", [("snapshot.delete", {"name": "x"}), ("snapshot.delete", {"name": "y"})]),
        ("branch create /m x", [("branch.create", {"name": "x"})]),
        ("branch create /m x --from s", [("branch.create", {"name": "x", "from": "s"})]),
        ("branch list /m", [("branch.list", {})]),
        ("branch show /m x", [("branch.show", {"name": "x"})]),
        ("branch rename /m x y", [("branch.rename", {"old": "x", "new": "y"})]),
        ("branch delete /m x", [("branch.delete", {"name": "x"})]),
        ("restore /m x", [("restore", {"state": "x"})]),
        ("restore /m x --dry-run -- a b/c", [("restore", {"state": "x", "paths": ["a", "b/c"], "dry_run": True})]),
        ("undo /m", [("undo", {})]),
        ("undo /m 7", [("undo", {"operation": 7})]),
        ("log /m", [("log", {})]),
        ("log /m --limit 3", [("log", {"limit": 3})]),
        ("changes /m a", [("changes", {"a": "a"})]),
        ("changes /m a b", [("changes", {"a": "a", "b": "b"})]),
        ("diff /m a b", [("diff", {"a": "a", "b": "b"})]),
        ("sync /m", [("sync", {})]),
        ("stats /m", [("stats", {})]),
    ],
)
def test_what_is_asked(run: Run, fake: Fake, words: str, asked: list[tuple[str, dict[str, Any]]]) -> None:
    fake.results = {
        "snapshot.list": [],
        "branch.list": [],
        "log": [],
        "changes": [],
        "diff": "",
    }
    outcome = run(*words.split())
    assert (outcome.code, outcome.output) == (0, "")
    assert fake.asked == asked
    assert all(path == "/m/.heliosfs/call" for path in fake.paths)


@pytest.mark.parametrize(
    ("words", "verb", "result"),
    [
        ("status /m", "status", {"branch": ""}),
        ("snapshot create /m x", "snapshot.create", MEMBER),
        ("snapshot list /m", "snapshot.list", [CONTROL_NAME]),
        ("snapshot show /m x", "snapshot.show", MEMBER),
        ("branch create /m x", "branch.create", MEMBER),
        ("branch list /m", "branch.list", []),
        ("branch show /m x", "branch.show", MEMBER),
        ("restore /m x", "restore", {"inodes": 3}),
        ("undo /m", "undo", {"what": "restore"}),
        ("log /m", "log", []),
        ("changes /m a", "changes", [{"change": "A", "path": "\udcff"}]),
        ("stats /m", "stats", {"journal_bytes": 7}),
    ],
)
def test_json_is_what_the_daemon_said(run: Run, fake: Fake, words: str, verb: str, result: Any) -> None:
    fake.results[verb] = result
    outcome = run(*words.split(), "--json")
    assert outcome.code == 0
    assert json.loads(outcome.output) == result


@pytest.mark.parametrize("kind", ["snapshot", "branch"])
def test_a_list_is_a_table(run: Run, fake: Fake, kind: str) -> None:
    fake.results[f"{kind}.list"] = [MEMBER, CONTROL_NAME]
    lines = run(kind, "list", "/m").output.splitlines()
    assert lines[0].split() == ["NAME", "CREATED", "BY"]
    assert lines[1].split() == ["a", *MOMENT_TEXT.split(), str(NOBODY_KNOWS)]
    assert lines[2].startswith("$'a\\n'")
    assert len(lines) == 3


def test_an_empty_list_says_so_beside_the_output(run: Run, fake: Fake) -> None:
    fake.results["snapshot.list"] = []
    outcome = run("snapshot", "list", "/m")
    assert (outcome.output, outcome.error) == ("", "No snapshots.\n")


def test_show_has_a_fact_a_line(run: Run, fake: Fake) -> None:
    fake.results["snapshot.show"] = MEMBER
    assert run("snapshot", "show", "/m", "a").output.splitlines() == [
        "name     a",
        f"created  {MOMENT_TEXT}",
        f"uid      {NOBODY_KNOWS}",
    ]


def test_deleting_stops_at_the_first_refusal(run: Run, fake: Fake) -> None:
    fake.refusals["snapshot.delete"] = (2, "there is no snapshot named 'x'")
    outcome = run("snapshot", "delete", "/m", "x", "y")
    assert outcome.code == 1
    assert len(fake.asked) == 1


def test_the_log_is_a_table(run: Run, fake: Fake) -> None:
    entry = {"number": 12, "time": MOMENT, "uid": NOBODY_KNOWS, "what": "snapshot.create x\x1b"}
    fake.results["log"] = [entry]
    lines = run("log", "/m").output.splitlines()
    assert lines[0].split() == ["NUMBER", "WHEN", "BY", "WHAT"]
    assert lines[1] == f"    12  {MOMENT_TEXT}  {NOBODY_KNOWS}  $'snapshot.create x\\e'"


def test_changes_are_one_a_line(run: Run, fake: Fake) -> None:
    fake.results["changes"] = [{"change": "A", "path": "a"}, {"change": "D", "path": "b\nc"}]
    assert run("changes", "/m", "x").output == "A a\nD $'b\\nc'\n"


def test_a_diff_comes_out_as_it_is_and_without_colour(run: Run, fake: Fake) -> None:
    text = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n"
    fake.results["diff"] = text
    assert run("diff", "/m", "x").output == text


def test_status_of_one_mount(run: Run, fake: Fake) -> None:
    fake.results["status"] = {
        "mountpoint": "/m",
        "store": "/s",
        "version": "1",
        "pid": 7,
        "mounted": MOMENT,
        "read_only": True,
        "features": {"fast_loop": True, "own_mount": False},
        "branch": "a/b",
        "snapshot": None,
        "snapshots": 2,
        "branches": 0,
        "last": {"verb": "merge", "branch": "x", "changes": 2, "conflicts": [{"path": "f"}], "decided": []},
    }
    assert run("status", "/m").output.splitlines() == [
        "mountpoint      /m",
        "store           /s",
        "process         7, version 1",
        f"mounted         {MOMENT_TEXT}, read-only",
        "tree            the branch a/b",
        "snapshots       2",
        "branches        0",
        "last            verb merge, branch x, changes 2, conflicts 1, decided 0",
        "slower without  own mount",
    ]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "mountinfo"
    mine, other = os.getuid(), os.getuid() + 1
    file.write_text(
        f"80 22 0:901 / {tmp_path}/mine rw - fuse.heliosfs /s1 rw,user_id={mine}\n"
        f"81 22 0:902 / {tmp_path}/other rw - fuse.heliosfs /s2 rw,user_id={other}\n"
        f"82 22 0:901 /.branches/b {tmp_path}/bound rw - fuse.heliosfs /s1 rw,user_id={mine}\n"
        f"83 22 0:903 / {tmp_path}/read ro - fuse.heliosfs /s3 rw,user_id={mine}\n"
    )
    monkeypatch.setattr("heliosfs.daemon.mounts.MOUNTINFO", str(file))
    return tmp_path


def test_status_of_all_mounts_of_this_user(run: Run, table: Path) -> None:
    lines = run("status").output.splitlines()
    assert lines[0].split() == ["MOUNTPOINT", "STORE", "STATE"]
    assert [line.split() for line in lines[1:]] == [
        [f"{table}/mine", "/s1", "mounted"],
        [f"{table}/read", "/s3", "read-only"],
    ]


def test_status_as_json(run: Run, table: Path) -> None:
    listed = json.loads(run("status", "--json").output)
    assert listed[0] == {"mountpoint": f"{table}/mine", "store": "/s1", "read_only": False, "alive": True}
    assert len(listed) == 2


def test_status_without_mounts(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").touch()
    monkeypatch.setattr("heliosfs.daemon.mounts.MOUNTINFO", str(tmp_path / "empty"))
    outcome = run("status")
    assert (outcome.code, outcome.output) == (0, "")
    assert "Nothing is mounted" in outcome.error
    assert run("status", "--json").output == "[]\n"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["-o", "nonsense", "s", "m"], "there is no option 'nonsense'"),
        (["-o", "allow_other=perhaps", "s", "m"], "allow_other is yes or no"),
        (["-o", "spin_microseconds=x", "s", "m"], "spin_microseconds is a number"),
        (["-o", "copiers", "s", "m"], "copiers needs a value"),
    ],
)
def test_wrong_mount_options_are_wrong_usage(run: Run, words: list[str], part: str) -> None:
    outcome = run("mount", *words)
    assert outcome.code == 2
    assert part in outcome.error


def test_mount_options_are_listed(run: Run) -> None:
    outcome = run("mount", "-o", "help")
    assert outcome.code == 0
    assert "allow_other " in outcome.output
    assert "\nread_only" not in outcome.output


def test_mount_needs_a_place_for_the_store(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    outcome = run("mount", str(tmp_path / "no" / "s"), str(tmp_path / "m"))
    assert outcome.code == 1
    assert f"{tmp_path}/no, where the store is to be" in outcome.error


def test_umount_of_what_is_not_mounted(run: Run, tmp_path: Path) -> None:
    outcome = run("umount", str(tmp_path))
    assert outcome.code == 1
    assert "is not in a HeliosFS mount" in outcome.error


def test_umount_of_what_another_user_mounted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = mounts.Mount("/m", mounts.TYPE, "/s", 1, NOBODY_KNOWS, read_only=False, whole=True)
    monkeypatch.setattr(mounts, "mount_around", lambda path: mount)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    outcome = run("umount", "/m")
    assert outcome.code == 1
    assert f"/m was mounted by {NOBODY_KNOWS}: only {NOBODY_KNOWS} and root can unmount it" in outcome.error


def test_fsck_of_what_is_no_store(run: Run, tmp_path: Path) -> None:
    assert run("fsck", str(tmp_path / "none")).code == 1
    outcome = run("fsck", str(tmp_path))
    assert outcome.code == 1
    assert "is not a store" in outcome.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("restore . m", ["monday"]),
        ("restore . ", ["attempt", "monday", "tuesday"]),
        ("diff . monday t", ["tuesday"]),
        ("snapshot delete . monday ", ["tuesday"]),
        ("snapshot show . ", ["monday", "tuesday"]),
        ("branch create . new --from t", ["tuesday"]),
        ("branch rename . ", ["attempt"]),
        ("merge . ", ["attempt"]),
    ],
)
def test_names_are_completed(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, expected: list[str]
) -> None:
    fake.results = {
        "snapshot.list": [{"name": name} for name in ("tuesday", "monday", "with space", "$(rm)")],
        "branch.list": [{"name": "attempt"}],
    }
    words = f"heliosfs {line}"
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    assert shell_complete(main.command, {}, "heliosfs", "_HELIOSFS_COMPLETE", "bash_complete") == 0
    assert capsys.readouterr().out.split() == [f"plain,{name}" for name in expected]
