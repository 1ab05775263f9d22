"""heliosfs status: the mounts of this user, or how one of them is doing."""

import json
import os
from typing import Any

import click

from heliosfs.base.quoting import shown
from heliosfs.cli import output
from heliosfs.cli.call import ReadOnly, call, tree_root
from heliosfs.cli.options import as_json as json_option
from heliosfs.daemon import mounts

STATUS = ".heliosfs/status"


@click.command()
@click.argument("mountpoint", type=click.Path(), required=False)
@json_option
def command(mountpoint: str | None, as_json: bool) -> None:
    """Show how the mount at MOUNTPOINT is doing; without one, all mounts of this user.

    \b
    Examples:
      heliosfs status
      heliosfs status . --json
    """
    if mountpoint is None:
        _all_mounts(as_json)
        return
    result = _status(mountpoint)
    if as_json:
        output.say_json(result)
    else:
        output.facts(_described(result))


def _status(mountpoint: str) -> Any:
    """What the verb says, or the file beside it: in a mount that is read-only nothing can be asked."""
    try:
        return call(mountpoint, "status")
    except ReadOnly:
        with open(os.path.join(tree_root(mountpoint), STATUS), "rb") as file:
            return json.load(file)


def _described(result: dict[str, Any]) -> list[tuple[str, str]]:
    absent = [name.replace("_", " ") for name, active in result["features"].items() if not active]
    tree = f"the branch {shown(result['branch'])}" if result["branch"] else "the main branch"
    if result["snapshot"] is not None:
        tree = f"the snapshot {shown(result['snapshot'])} of {tree}"
    last = result["last"]
    changed: dict[str, str] = (result.get("base") or {}).get("changed", {})
    return [
        ("mountpoint", shown(result["mountpoint"])),
        ("store", shown(result["store"])),
        ("process", f"{result['pid']}, version {result['version']}"),
        ("mounted", output.when(result["mounted"]) + (", read-only" if result["read_only"] else "")),
        ("tree", tree),
        ("snapshots", str(result["snapshots"])),
        ("branches", str(result["branches"])),
        *([("base", _base(result["base"]))] if result.get("base") else []),
        *[("base changed", f"{shown(path)}: {why}") for path, why in changed.items()],
        *([("last", _last(last))] if last else []),
        *([("slower without", ", ".join(absent))] if absent else []),
        *[("trouble", shown(trouble)) for trouble in result.get("troubles", ())],
    ]


def _last(report: dict[str, Any]) -> str:
    """What the last restore, undo or merge did; of lists how long they are."""
    brief = {name: len(value) if isinstance(value, list) else value for name, value in report.items()}
    return ", ".join(f"{name} {text}" for name, text in output.readable(brief))


def _base(base: dict[str, Any]) -> str:
    if not base["needed"]:
        return f"{shown(base['directory'])}, all taken in: no longer needed"
    left = f"{base['files_left']} files ({output.size(base['left_bytes'])}) and {base['directories_left']} directories"
    return f"{shown(base['directory'])}, still needed: at least {left} left to take in"


def _all_mounts(as_json: bool) -> None:
    user = os.getuid()
    found = [mount for mount in mounts.mounts() if mount.whole and mount.user_id == user]
    listed: list[dict[str, Any]] = [
        {
            "mountpoint": mount.mountpoint,
            "store": mount.store,
            "read_only": mount.read_only,
            "alive": not mounts.is_dead(mount.mountpoint),
        }
        for mount in found
    ]
    if as_json:
        output.say_json(listed)
    elif not listed:
        click.echo("Nothing is mounted. `heliosfs mount STORE MOUNTPOINT` mounts a store.", err=True)
    else:
        output.table(("MOUNTPOINT", "STORE", "STATE"), [_row(mount) for mount in listed])


def _row(mount: dict[str, Any]) -> tuple[str, str, str]:
    state = "dead: heliosfs umount clears it away"
    if mount["alive"]:
        state = "read-only" if mount["read_only"] else "mounted"
    return shown(mount["mountpoint"]), shown(mount["store"]), state
