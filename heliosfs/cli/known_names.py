"""Names of snapshots and branches for a shell that completes a command: asked of the mount the line names.

Completion must never fail or say anything: where there is no mount, there are no names.
"""

import os
import re
from collections.abc import Callable, Sequence

import click

from heliosfs.cli.call import call

Complete = Callable[[click.Context, click.Parameter, str], list[str]]

_PLAIN = re.compile(r"[\w.,:@%+=/-]+")
"""Names that mean themselves in a shell. Others have to be typed, since bash would take them apart."""


def names(*verbs: str) -> Complete:
    """Complete the names that these verbs list, of the tree given before on the line.

    In the value of an option click does not say what was given; the tree around the current directory must do.
    """

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        given: Sequence[str] = context.params.get(parameter.name or "") or ()
        tree = context.params.get("mountpoint") or os.curdir
        try:
            found = {each["name"] for verb in verbs for each in call(tree, verb)}
        except Exception:
            return []
        if parameter.nargs == 1:
            given = ()
        return sorted(name for name in found - {*given} if name.startswith(begun) and _PLAIN.fullmatch(name))

    return complete


SNAPSHOTS = names("snapshot.list")
BRANCHES = names("branch.list")
STATES = names("snapshot.list", "branch.list")
