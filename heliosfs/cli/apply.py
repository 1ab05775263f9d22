"""heliosfs apply: write what a branch has changed onto the directory that was imported."""

import os
from typing import Any

import click

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.applying import Plan
from heliosfs.cli.call import call, tree_root
from heliosfs.cli.known_names import BRANCHES
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.options import mountpoint
from heliosfs.cli.progress import Progress, State


@click.command()
@mountpoint
@click.argument("branch", shell_complete=BRANCHES)
@click.option("--onto", "directory", metavar="DIRECTORY", required=True, type=click.Path(), help="Where to write it.")
@click.option("--dry-run", is_flag=True, help="Only check, and list what would be written.")
@json_option
def command(mountpoint: str, branch: str, directory: str, dry_run: bool, as_json: bool) -> None:
    """Write what BRANCH has changed onto DIRECTORY, which was imported into the tree at MOUNTPOINT.

    BRANCH is the name of a branch below MOUNTPOINT, or . for the tree at MOUNTPOINT itself. Every file that would be
    written is compared first with what was imported: when one has changed there since, all of those are named and
    nothing is written. What is already there as the branch has it is left alone.

    \b
    Examples:
      heliosfs import ~/project ~/work/project
      heliosfs apply ~/work attempt --onto ~/project --dry-run
      heliosfs apply ~/work attempt --onto ~/project
    """
    root, real = tree_root(mountpoint), os.path.realpath(directory)
    if not os.path.isdir(real):
        raise HeliosError(f"{shown(directory)} is no directory")
    if os.stat(real).st_dev == os.stat(root).st_dev:
        raise HeliosError(f"{shown(directory)} is in the mount itself; use `heliosfs merge` there")
    work: dict[str, Any] = call(root, "apply.begin", branch=branch, directory=real)
    try:
        if not os.path.isdir(os.path.join(root, work["state"], work["path"])):
            raise HeliosError(f"{shown(branch)} no longer has {shown(work['path'])}, the place of {shown(real)} in it")
        plan = Plan(work, root, real)
        changed = plan.check()
        if changed:
            names = "\n".join(f"  {shown(path)}" for path in changed)
            raise HeliosError(
                f"changed in {shown(real)} since it was imported, so nothing was written:\n{names}\n"
                f"Bring these changes in first, as with cp and `heliosfs merge`, or take them back there."
            )
        if not dry_run and plan.changes:
            call(root, "base.take", paths=[os.fsdecode(path) for path in plan.replaced()])
            with Progress(lambda: State(plan.done, plan.copier.bytes, plan.done, plan.whole), wanted=not as_json):
                plan.write()
            name = os.path.basename(work["state"])
            call(root, "apply.end", branch=branch, directory=real, state=name)
    finally:
        call(root, "state.hide", path=work["state"])
    if as_json:
        output.say_json({"dry_run": dry_run, "changes": plan.changes})
    else:
        output.changes(plan.changes)
