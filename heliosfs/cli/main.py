"""The command's entry: the table of commands, and the one place where errors become words and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. No traceback is ever shown, except that
HELIOSFS_DEBUG=1 asks for those of our own mistakes.
"""

import errno
import importlib
import os
import sys
from typing import NoReturn

import click

from heliosfs import __version__
from heliosfs.base.errors import HeliosError, Refusal
from heliosfs.base.quoting import shown

COMMANDS = {
    "mount": "Mount a store on a directory; create the store if there is none.",
    "umount": "Unmount, and wait until everything is durable.",
    "status": "What is mounted, and how it is doing.",
    "snapshot": "Checkpoint the tree: create, list, show, hold, release, rename, delete.",
    "branch": "Fork the tree: create, list, show, rename, delete.",
    "config": "Show or change the settings of a volume.",
    "restore": "Roll the tree back to a state, or some paths of it.",
    "import": "Bring a directory or a tar file into a tree.",
    "export": "Copy a state into a directory outside.",
    "apply": "Write what a branch has changed onto the directory that was imported.",
    "undo": "Take back the last operation, or one by its number.",
    "log": "The operation log: what was done to snapshots and branches, when and by whom.",
    "tree": "Branches and snapshots as a drawn lineage, with sizes.",
    "changes": "Names of what changed between two states.",
    "diff": "What changed between two states, line by line.",
    "merge": "Bring in what a branch has changed.",
    "conflicts": "What merges have left open.",
    "resolve": "Settle a conflict.",
    "sync": "Make everything durable against a power cut.",
    "stats": "Sizes, deduplication, caches, requests.",
    "gc": "Free what nothing refers to any more.",
    "fsck": "Check a store that is not mounted: every invariant, every object.",
    "bench": "How fast a volume is on this machine, in some seconds.",
    "completion": "Print the completion script for a shell.",
}
"""Name and summary of each command; the module of that name under heliosfs.cli has the rest. The summaries
stand here so that `heliosfs --help` need not import every command."""


class Commands(click.Group):
    """A group whose commands are imported when they are called for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"heliosfs.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "-V", "--version", message="heliosfs %(version)s")
def command() -> None:
    """A directory that can be checkpointed, forked, compared and rolled back as a whole.

    MOUNTPOINT may be any path inside a mount; inside a branch a command acts on that branch.

    \b
    Examples:
      heliosfs mount ~/work.store ~/work     mount; the store is made if there is none
      cd ~/work
      heliosfs snapshot create . before      checkpoint, or: mkdir .snapshots/before
      heliosfs diff . before                 what has changed since
      heliosfs restore . before              roll back
      heliosfs undo .                        no, go back to where I was
      heliosfs umount ~/work

    \b
    Exit codes: 0 done, 1 failed (also: fsck, log --verify and conflicts found something, merge left conflicts),
    2 wrong usage, 130 interrupted. HELIOSFS_DEBUG=1 adds a traceback to an internal error.
    """


def main() -> NoReturn:
    """Run the command and exit."""
    if sys.stdout is None:  # closed by whoever called us (`>&-`)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    coloured = False if os.environ.get("NO_COLOR") else None
    try:
        command.main(prog_name="heliosfs", standalone_mode=False, color=coloured)
        sys.stdout.flush()
        code = 0
    except click.UsageError as error:
        error.show()
        code = 2
    except click.exceptions.Exit as ending:
        code = ending.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except BrokenPipeError:
        # Whoever read our output has seen enough. Nothing may be written to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        click.echo(f"heliosfs: {explain(error)}", err=True)
        code = 1
    sys.exit(code)


def explain(error: Exception) -> str:
    """An error in words for a person."""
    if isinstance(error, HeliosError | Refusal):
        return str(error)
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError) and error.errno is not None:
        return _explain_system(error)
    if os.environ.get("HELIOSFS_DEBUG"):
        import traceback

        traceback.print_exception(error)
    return (
        f"internal error: {type(error).__name__}: {error}\n"
        "This is a mistake in HeliosFS. Please report it with what HELIOSFS_DEBUG=1 adds to this message."
    )


def _explain_system(error: OSError) -> str:
    path = error.filename
    text = f"{shown(path)}: {error.strerror}" if isinstance(path, str | bytes) else str(error.strerror)
    if error.errno == errno.ENOTCONN:
        return f"{text}\nThe mount's daemon is gone; `heliosfs umount` clears the mount away."
    return text
