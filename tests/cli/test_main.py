"""The command as a whole: help, exit codes, errors in words."""

import importlib
import os
import subprocess
import sys

import click
import pytest

from heliosfs.base.errors import HeliosError
from heliosfs.cli.main import COMMANDS

from .conftest import Fake, Run

LONG = 120


def shell(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "heliosfs", *words],
        capture_output=True,
        text=True,
        timeout=LONG,
        env={**os.environ, **environment},
        check=False,
    )


def test_help_names_every_command(run: Run) -> None:
    outcome = run("--help")
    assert outcome.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in outcome.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run: Run, name: str) -> None:
    outcome = run(name, "--help")
    assert outcome.code == 0
    assert outcome.output.startswith(f"Usage: heliosfs {name}")


def test_wrong_usage_is_exit_2(run: Run) -> None:
    for words in (
        ["nonsense"],
        ["snapshot", "create"],
        ["log", "--limit", "0", "."],
        ["status", "--nonsense"],
    ):
        outcome = run(*words)
        assert outcome.code == 2, words
        assert "Traceback" not in outcome.error


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_must_be_one_component(run: Run, fake: Fake, name: str) -> None:
    assert run("snapshot", "create", "/m", name).code == 2
    assert fake.asked == []


def test_outside_a_mount_the_way_out_is_told() -> None:
    done = shell("snapshot", "create", "/proc", "x")
    assert done.returncode == 1
    assert "/proc is not in a HeliosFS mount" in done.stderr
    assert "heliosfs mount STORE MOUNTPOINT" in done.stderr
    assert done.stdout == ""


def test_a_missing_path_is_named(run: Run) -> None:
    outcome = run("log", "/nowhere/at all")
    assert (outcome.code, outcome.error) == (1, "heliosfs: there is no /nowhere/at all\n")


def test_a_refusal_is_the_daemons_word(run: Run, fake: Fake) -> None:
    fake.refusals["snapshot.create"] = (17, "there is a snapshot x already; choose another name")
    outcome = run("snapshot", "create", "/m", "x")
    assert outcome.code == 1
    assert outcome.error == "heliosfs: there is a snapshot x already; choose another name\n"


def test_a_mistake_of_ours_shows_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.delenv("HELIOSFS_DEBUG", raising=False)
    monkeypatch.setattr("heliosfs.cli.sync.call", fail)
    outcome = run("sync", "/m")
    assert outcome.code == 1
    assert outcome.error.startswith("heliosfs: internal error: ZeroDivisionError: by zero\n")
    assert "Traceback" not in outcome.error


def test_an_interrupt_is_exit_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("heliosfs.cli.sync.call", interrupt)
    assert run("sync", "/m").code == 130


def test_an_error_of_the_system_names_the_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/m/\n")

    monkeypatch.setattr("heliosfs.cli.sync.call", fail)
    assert run("sync", "/m").error == "heliosfs: $'/m/\\n': Permission denied\n"


def test_an_error_told_to_people_is_printed_as_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise HeliosError("this, because of that; do so")

    monkeypatch.setattr("heliosfs.cli.sync.call", fail)
    assert run("sync", "/m").error == "heliosfs: this, because of that; do so\n"


def test_a_reader_that_has_seen_enough_is_told_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "heliosfs", "--help"],
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=LONG,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_without_a_standard_output_nothing_is_wrong() -> None:
    words = [sys.executable, "-m", "heliosfs", "completion", "bash"]
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *words], stderr=subprocess.PIPE, timeout=LONG, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_script_for_each_shell(name: str) -> None:
    done = shell("completion", name)
    assert done.returncode == 0
    assert "_HELIOSFS_COMPLETE" in done.stdout


def test_completion_finds_commands() -> None:
    done = shell(_HELIOSFS_COMPLETE="bash_complete", COMP_WORDS="heliosfs snap", COMP_CWORD="1")
    assert done.stdout.split() == ["plain,snapshot"]


def test_completion_without_a_mount_finds_no_names_and_says_nothing() -> None:
    done = shell(_HELIOSFS_COMPLETE="bash_complete", COMP_WORDS="heliosfs restore / ", COMP_CWORD="3")
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_every_command_shows_how_it_is_used() -> None:
    for name in COMMANDS:
        module = importlib.import_module(f"heliosfs.cli.{name}")
        text = module.command.get_help(click.Context(module.command, info_name=name))
        assert "Examples:" in text or name == "completion", name
        cut = [line for line in text.splitlines() if line.endswith("...") and "Usage:" not in line]
        assert not cut, "summaries that were cut short"


def test_asking_imports_nothing_of_the_engine() -> None:
    program = (
        "import sys; sys.argv = ['heliosfs', 'status']\n"
        "from heliosfs.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'trio', 'pyfuse3', 'rocksdict', 'rich', 'blake3'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LONG, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
