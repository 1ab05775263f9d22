"""heliosfs fsck: check a store that is not mounted, and repair what can be."""

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.phases import Progress, progress
from heliosfs.daemon import mounts

if TYPE_CHECKING:
    from heliosfs.volume.fsck import Report

ROUNDS_MAX = 10
"""A node that was brought back shows what is missing below it, which is looked for in the next round."""


@click.command()
@click.argument("store", type=click.Path())
@click.option("--repair", is_flag=True, help="Bring back what can be.")
@click.option(
    "--from",
    "sources",
    metavar="PATH",
    multiple=True,
    type=click.Path(exists=True),
    help="With --repair: a file or directory that may have the content that is damaged. May be repeated.",
)
@json_option
def command(store: str, repair: bool, sources: tuple[str, ...], as_json: bool) -> None:
    """Check every invariant and every object of STORE, which must not be mounted.

    Lists what is damaged, which files of which states that hits, and in which other states these can be read; exit code
    1 when there is anything. Changes nothing, unless --repair is given: then what is damaged is brought back from
    another copy in the store, or from files of the same content. What cannot be is marked, so that it heals when the
    same content is written again. A database that cannot be read is rebuilt from its spare and the packs.

    \b
    Examples:
      heliosfs fsck ~/work.store
      heliosfs fsck ~/work.store --json | jq .problems
      heliosfs fsck ~/work.store --repair --from /mnt/backup/work
    """
    if sources and not repair:
        raise click.UsageError("--from is of use with --repair only.")
    path = Path(os.path.realpath(store))
    if not path.is_dir():
        raise HeliosError(f"there is no store {shown(store)}")
    _check_place(path)
    with progress() as tell:
        kept = _rebuild(path, tell) if repair else None
        healed = _repair(path, [Path(source) for source in sources], tell) if repair else 0
        report = _check(path, tell)
    if kept is not None:
        click.echo(f"the database was rebuilt; the damaged one is kept in {shown(str(kept))}", err=True)
    if as_json:
        output.say_json({
            "problems": report.problems, "elsewhere": report.elsewhere, "objects": report.objects,
            "files": report.files, "repaired_objects": healed, "rebuilt_database": kept is not None,
        })  # fmt: skip
    else:
        _say(report, healed, repair)
    if report.problems:
        sys.exit(1)


def _check_place(path: Path) -> None:
    """See that it is not a mount that is to be checked."""
    mount = mounts.mount_around(str(path))
    if mount is not None and not (path / "format").exists():
        raise HeliosError(
            f"{shown(str(path))} is where the store {shown(mount.store)} is mounted; fsck checks a store that is not: "
            f"heliosfs umount {shown(mount.mountpoint)}, then heliosfs fsck {shown(mount.store)}"
        )


def _check(path: Path, tell: Progress) -> "Report":
    from heliosfs.store.store import Store
    from heliosfs.volume import fsck

    with closing(Store.open(path, create=False, read_only=True)) as opened:
        return fsck.check(opened, tell)


def _rebuild(path: Path, tell: Progress) -> Path | None:
    """Where a database that cannot be read is now, of which there is a new one; None when it can be."""
    from heliosfs.store.rebuild import is_readable, rebuild
    from heliosfs.store.store import Store

    if not (path / "format").exists() or is_readable(path):
        return None
    try:
        return rebuild(path, tell)
    except HeliosError as failure:
        try:
            # Part of it can be read: what can be is repaired in it as it is.
            Store.open(path, create=False).close()
        except HeliosError as damage:
            raise HeliosError(f"{damage} ({failure})") from failure
    return None


def _repair(path: Path, sources: list[Path], tell: Progress) -> int:
    """How many objects were brought back."""
    from heliosfs.store.store import Store
    from heliosfs.volume import fsck
    from heliosfs.volume.repair import repair

    healed = 0
    for _ in range(ROUNDS_MAX):
        with closing(Store.open(path, create=False)) as opened:
            found = repair(opened, fsck.check(opened, tell).bad, sources, tell)
        healed += len(found)
        if not found:
            break
    return healed


def _say(report: "Report", healed: int, repair: bool) -> None:
    if healed:
        click.echo(f"{healed} damaged objects were brought back")
    for problem in report.problems:
        output.say(problem)
    for sentence in report.elsewhere:
        output.say(sentence)
    found = f"{len(report.problems)} problems" if report.problems else "no problems"
    click.echo(f"{report.objects} objects and {report.files} files checked: {found}")
    if report.bad and not repair:
        click.echo("--repair brings back what can be.", err=True)
    elif report.bad:
        click.echo(
            "What is left cannot be brought back from this store: write the same content again, or give it with "
            "--from, or restore the files from another state, or remove them.",
            err=True,
        )
