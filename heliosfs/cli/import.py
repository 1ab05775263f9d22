"""heliosfs import: bring a directory or a tar file into a tree."""

import errno
import os
import stat
import threading
import uuid
from typing import Any

import click

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import Refused, call, call_until_interrupted, tree_root
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.progress import Progress, State


@click.command()
@click.argument("source", type=click.Path())
@click.argument("target", type=click.Path())
@json_option
def command(source: str, target: str, as_json: bool) -> None:
    """Bring what is in SOURCE, a directory or a tar file (compressed or not, - for standard input), into TARGET: a
    directory in a mount, made if there is none.

    Owners, modes, times, hard links, holes and extended attributes are kept. What exists in TARGET is not touched:
    when a name is taken, nothing is imported. It is one operation, and `heliosfs undo` takes it back.

    \b
    Examples:
      heliosfs import ~/project ~/work/project
      heliosfs import linux.tar.xz ~/work/linux
      git archive HEAD | heliosfs import - ~/work/head
    """
    root, path = _place(target)
    try:
        descriptor = 0 if source == "-" else os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(descriptor)
    except OSError as error:
        raise HeliosError(f"{shown(source)}: {error.strerror}") from None
    is_tar = not stat.S_ISDIR(found.st_mode)
    token = uuid.uuid4().hex
    whole = _Whole(source, found.st_size if is_tar else 0)
    try:
        with Progress(lambda: _state(root, token, whole), wanted=not as_json):
            result: dict[str, Any] = call_until_interrupted(
                root, "import", descriptor=descriptor, tar=is_tar or None, path=path, token=token,
                origin=None if is_tar else os.path.realpath(source),
                what=f"{shown(os.path.abspath(source)) if source != '-' else '-'} into {shown(path)}",
                stop=lambda: call(root, "import.stop", token=token),
            )  # fmt: skip
    except Refused as refusal:
        if refusal.errno != errno.EINTR:
            raise
        click.echo("heliosfs: interrupted: nothing was imported", err=True)
        raise KeyboardInterrupt from refusal
    if as_json:
        output.say_json(result)
    else:
        click.echo(f"{result['files']} files, {output.size(result['bytes'])}", err=True)


def _place(target: str) -> tuple[str, str]:
    """The root of the tree and the path in it of a directory that need not exist."""
    directory = os.path.realpath(target)
    existing = directory
    while not os.path.isdir(existing) and existing != "/":
        existing = os.path.dirname(existing)
    root = tree_root(existing)
    return root, os.path.relpath(directory, root)


class _Whole:
    """How much there is to do: the bytes of a tar file, or the files of a directory once they have been counted."""

    def __init__(self, source: str, tar_bytes: int) -> None:
        self.tar_bytes = tar_bytes
        self.files = 0
        self._source = source
        self._begun = False

    def count(self) -> None:
        if not self._begun and not self.tar_bytes and self._source != "-":
            self._begun = True
            threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        self.files = sum(len(names) + len(below) for _, below, names in os.walk(self._source))


def _state(root: str, token: str, whole: _Whole) -> State | None:
    whole.count()
    try:
        found = call(root, "import.progress", token=token)
    except (HeliosError, OSError):
        return None
    if not found:
        return None
    done, total = (found["read"], whole.tar_bytes) if whole.tar_bytes else (found["files"], whole.files)
    return State(found["files"], found["bytes"], done, total)
