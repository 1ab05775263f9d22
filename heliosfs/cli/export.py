"""heliosfs export: copy a state out, into a directory or a tar file."""

import os
import shutil
import sys
from typing import Any

import click

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.archiving import Archiver, compression
from heliosfs.cli.call import call, tree_root
from heliosfs.cli.copying import Copier, naming
from heliosfs.cli.known_names import STATES
from heliosfs.cli.options import NAME, mountpoint
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.progress import Progress, State

STDOUT = "-"


@click.command()
@mountpoint
@click.argument("state", type=NAME, shell_complete=STATES)
@click.argument("target", type=click.Path())
@json_option
def command(mountpoint: str, state: str, target: str, as_json: bool) -> None:
    """Copy what the tree at MOUNTPOINT is in STATE into TARGET: a directory that is made or is empty, a new tar file if
    the name ends so (.tar, .tar.gz, .tgz, .tar.bz2, .tar.xz), or - for a tar file on standard output.

    STATE is a snapshot, a branch, NAME@SNAPSHOT, op:N, a time, or now. Modes, times, hard links, holes and extended
    attributes are kept, and owners: in a directory for root alone. When the copy fails, nothing is left of it.

    \b
    Examples:
      heliosfs export . monday ~/monday
      heliosfs export . now /mnt/backup/work.tar.gz
      heliosfs export . '1 hour ago' - | ssh backup 'cat > before.tar'
    """
    root = tree_root(mountpoint)
    compressed = "" if target == STDOUT else compression(target)
    if os.path.isdir(target) and target != STDOUT:
        compressed = None
    real = os.path.realpath(target)
    if target == STDOUT:
        if as_json or sys.stdout.isatty():
            raise HeliosError("the tar file goes to standard output, which has to be a file or a pipe, without --json")
    else:
        _check_target(root, real, compressed is not None)
    place: dict[str, Any] = call(root, "state.show", state=state)
    source = os.fsencode(os.path.join(root, place["path"]))
    whole = _size(root) if place["path"] else 0
    try:
        if compressed is None:
            done: Copier | Archiver = _export(Copier(), source, os.fsencode(real), whole, not as_json)
        else:
            done = _archive(source, "" if target == STDOUT else real, compressed, whole, not as_json)
    finally:
        if place["made"]:
            call(root, "state.hide", path=place["path"])
    if as_json:
        output.say_json({"files": done.files, "bytes": done.bytes})
    else:
        click.echo(f"{done.files} files, {output.size(done.bytes)}", err=True)


def _export(copier: Copier, source: bytes, target: bytes, whole: int, wanted: bool) -> Copier:
    with Progress(lambda: State(copier.files, copier.bytes, copier.files, whole), wanted=wanted):
        _copy(copier, source, target)
    return copier


def _archive(source: bytes, target: str, compressed: str, whole: int, wanted: bool) -> Archiver:
    """Write a tar file, and leave nothing when that fails; to standard output without a target."""
    # Only its owner may read a file that holds what others may not read.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(target, flags, 0o600) if target else os.dup(sys.stdout.fileno())
    try:
        with naming(target or "standard output"), os.fdopen(descriptor, "wb") as stream:
            archiver = Archiver(stream, compressed)
            with Progress(lambda: State(archiver.files, archiver.bytes, archiver.files, whole), wanted=wanted):
                _put(archiver, source)
    except BaseException:
        if target:
            os.unlink(target)
        raise
    for name in archiver.left_out:
        click.echo(f"heliosfs: {shown(name)} is a socket, which a tar file cannot hold: it was left out", err=True)
    return archiver


def _put(archiver: Archiver, source: bytes) -> None:
    if os.path.isdir(source):
        archiver.tree(source)
    else:
        archiver.entry(source, os.path.basename(source), os.lstat(source))
    archiver.end()


def _size(root: str) -> int:
    """About how many files there are: those of the live tree."""
    found = os.statvfs(root)
    return max(0, found.f_files - found.f_ffree)


def _check_target(root: str, target: str, is_tar: bool) -> None:
    above = os.path.dirname(target)
    if not os.path.isdir(above):
        raise HeliosError(f"{shown(above)} is no directory, so {shown(target)} cannot be made in it; make it first")
    if is_tar and os.path.lexists(target):
        raise HeliosError(f"{shown(target)} exists; nothing was exported")
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
