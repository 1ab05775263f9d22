"""heliosfs export: copy a state into a directory outside."""

import os
import shutil
from typing import Any

import click

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import call, tree_root
from heliosfs.cli.copying import Copier
from heliosfs.cli.known_names import STATES
from heliosfs.cli.options import NAME, mountpoint
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.progress import Progress, State


@click.command()
@mountpoint
@click.argument("state", type=NAME, shell_complete=STATES)
@click.argument("target", type=click.Path())
@json_option
def command(mountpoint: str, state: str, target: str, as_json: bool) -> None:
    """Copy what the tree at MOUNTPOINT is in STATE into TARGET, a directory that is made or is empty.

    STATE is a snapshot, a branch, NAME@SNAPSHOT, op:N, a time, or now. Modes, times, hard links, holes and extended
    attributes are kept, and for root owners. When the copy fails, nothing is left of it.

    \b
    Examples:
      heliosfs export . monday ~/monday
      heliosfs export . now /mnt/backup/work
      heliosfs export . '1 hour ago' ~/before
    """
    root = tree_root(mountpoint)
    real = os.path.realpath(target)
    _check_target(root, real)
    place: dict[str, Any] = call(root, "state.show", state=state)
    source = os.fsencode(os.path.join(root, place["path"]))
    copier = Copier()
    whole = _size(root) if place["path"] else 0
    try:
        with Progress(lambda: State(copier.files, copier.bytes, copier.files, whole), wanted=not as_json):
            _copy(copier, source, os.fsencode(real))
    finally:
        if place["made"]:
            call(root, "state.hide", path=place["path"])
    if as_json:
        output.say_json({"files": copier.files, "bytes": copier.bytes})
    else:
        click.echo(f"{copier.files} files, {output.size(copier.bytes)}", err=True)


def _size(root: str) -> int:
    """About how many files there are: those of the live tree."""
    found = os.statvfs(root)
    return max(0, found.f_files - found.f_ffree)


def _check_target(root: str, target: str) -> None:
    above = os.path.dirname(target)
    if not os.path.isdir(above):
        raise HeliosError(f"{shown(above)} is no directory, so {shown(target)} cannot be made in it; make it first")
    if os.path.lexists(target) and (not os.path.isdir(target) or os.listdir(target)):
        raise HeliosError(f"{shown(target)} exists and is not an empty directory; nothing was exported")
    if os.stat(above).st_dev == os.stat(root).st_dev:
        raise HeliosError(f"{shown(target)} is in the mount itself; use `heliosfs restore` or cp there")


def _copy(copier: Copier, source: bytes, target: bytes) -> None:
    """Copy, and leave nothing when that fails."""
    existed = os.path.isdir(target)
    try:
        if not os.path.isdir(source):
            name = os.path.join(target, os.path.basename(source)) if existed else target
            copier.entry(source, name, os.lstat(source))
            return
        if not existed:
            os.mkdir(target, 0o700)
        copier.tree(source, target)
    except BaseException:
        if existed:
            for name in os.listdir(target):
                _remove(os.path.join(target, name))
        else:
            _remove(target)
        raise


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)
