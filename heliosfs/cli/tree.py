"""heliosfs tree: branches and snapshots as a drawn lineage."""

from collections.abc import Iterator
from typing import Any

import click

from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import call_until_interrupted
from heliosfs.cli.options import as_json as json_option
from heliosfs.cli.options import mountpoint

Node = dict[str, Any]


@click.command()
@mountpoint
@json_option
def command(mountpoint: str, as_json: bool) -> None:
    """Draw the tree at MOUNTPOINT with its snapshots, oldest first, and the branches forked from them.

    OWN is the content that no other branch or snapshot has, SHARED the rest of its content, both as stored. A branch
    stands below the snapshot that it was forked from, and ends with a slash.

    \b
    Examples:
      heliosfs tree .
      heliosfs tree . --json | jq '.snapshots[].own_bytes'
    """
    found: Node = call_until_interrupted(mountpoint, "tree")
    if as_json:
        output.say_json(found)
        return
    output.table(
        ("NAME", "CREATED", "OWN", "SHARED", ""),
        [
            (
                stem + shown(each["name"]) + ("/" if "snapshots" in each else ""),
                output.when(each["created"]),
                output.size(each["own_bytes"]),
                output.size(each["shared_bytes"]),
                shown(each.get("message", "").partition("\n")[0]) if each.get("message") else "",
            )
            for stem, each in drawn(found)
        ],
        right=(2, 3),
    )


def drawn(node: Node, stem: str = "", below: str = "") -> Iterator[tuple[str, Node]]:
    """Every branch and snapshot with the lines that lead to it."""
    yield stem, node
    children = _children(node)
    for position, child in enumerate(children, start=1):
        is_last = position == len(children)
        yield from drawn(child, below + ("`-- " if is_last else "|-- "), below + ("    " if is_last else "|   "))


def _children(node: Node) -> list[Node]:
    """What hangs below a branch: its snapshots, and what was forked from the live tree. Below a snapshot: what was
    forked from that."""
    branches: list[Node] = node["branches"]
    if "snapshots" not in node:
        return branches
    found: list[Node] = [branch for branch in branches if branch["from"] is None]
    for snapshot in node["snapshots"]:
        found.append({**snapshot, "branches": [each for each in branches if each["from"] == snapshot["name"]]})
    return sorted(found, key=lambda each: int(each["created"]))
