"""heliosfs fsck: check a store that is not mounted."""

import os
import sys
from contextlib import closing
from pathlib import Path

import click

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.phases import progress


@click.command()
@click.argument("store", type=click.Path())
@json_option
def command(store: str, as_json: bool) -> None:
    """Check every invariant and every object of STORE, which must not be mounted.

    Lists what is damaged and which files that hits; exit code 1 when there is anything. Changes nothing.

    \b
    Examples:
      heliosfs fsck ~/work.store
      heliosfs fsck ~/work.store --json | jq .problems
    """
    from heliosfs.store.store import Store
    from heliosfs.volume import fsck

    path = Path(os.path.realpath(store))
    if not path.is_dir():
        raise HeliosError(f"there is no store {shown(store)}")
    with closing(Store.open(path, create=False, read_only=True)) as opened, progress() as tell:
        report = fsck.check(opened, tell)
    if as_json:
        output.say_json({"problems": report.problems, "objects": report.objects, "files": report.files})
    else:
        for problem in report.problems:
            output.say(problem)
        found = f"{len(report.problems)} problems" if report.problems else "no problems"
        click.echo(f"{report.objects} objects and {report.files} files checked: {found}")
    if report.problems:
        sys.exit(1)
