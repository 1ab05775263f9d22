"""The floors hold: imports go downward only, and the rules that keep each floor small.

A failure here is no formality. An import upward ties two floors into one; say what the lower floor needs
as a parameter or a protocol instead.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "heliosfs"

BELOW = {
    "base": [],
    "store": ["base"],
    "merkle": ["base", "store"],
    "layers": ["base", "store", "merkle"],
    "view": ["base", "store", "merkle", "layers"],
    "volume": ["base", "store", "merkle", "layers", "view"],
    "fuse": ["base", "store", "merkle", "layers", "view", "volume"],
    "remote": ["base", "store", "merkle", "layers", "view", "volume"],
    "daemon": ["base", "store", "merkle", "layers", "view", "volume", "fuse", "remote"],
    "cli": ["base", "store", "merkle", "layers", "view", "volume", "fuse", "remote", "daemon"],
}
"""For each floor those that it may import. `fuse` and `remote` stand side by side."""

ONLY_IN = {
    "rocksdict": ["store/database.py"],
    "pyfuse3": ["fuse/"],
    "trio": ["fuse/", "remote/", "daemon/"],
    "click": ["cli/"],
    "rich": ["cli/"],
    "pyfastcdc": ["store/chunker.py"],
    "lz4": ["store/"],
    "blake3": ["base/digests.py"],
}
"""For each library the files (a name that ends in / is a folder) that may import it."""

LINES_MAX = 600
"""A file of more lines holds more than one noun."""

FUNCTION_LINES_MAX = 70
"""A function fits a screen."""

LIGHT_COMMANDS = ["status", "snapshot", "branch", "restore", "undo", "log", "changes", "diff", "sync", "stats", "umount"]
HEAVY = {"trio", "pyfuse3", "rocksdict", "lz4", "blake3", "pyfastcdc", "rich", "hypothesis"}

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """The full names of all imported modules, with their lines, wherever in the file they stand."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)}:{node.lineno}: write the whole name of the module"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_go_downward(file: Path) -> None:
    floor = name_of(file).split("/")[0]
    if floor not in BELOW:
        return
    for name, line in imports(file):
        parts = name.split(".")
        if parts[0] == "heliosfs" and len(parts) > 1 and parts[1] in BELOW:
            assert parts[1] in [floor, *BELOW[floor]], f"{name_of(file)}:{line}: {floor} may not import {name}"


def test_every_folder_is_a_floor() -> None:
    folders = {name_of(file).split("/")[0] for file in FILES if "/" in name_of(file)}
    assert folders <= set(BELOW)


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_is_used_in_its_place_alone(library: str) -> None:
    for file in FILES:
        for name, line in imports(file):
            if name.split(".")[0] == library:
                allowed = ONLY_IN[library]
                assert name_of(file).startswith(tuple(allowed)), (
                    f"{name_of(file)}:{line}: only {', '.join(allowed)} may import {library}"
                )


def test_cli_is_never_a_library() -> None:
    for file in FILES:
        if name_of(file).startswith("cli/") or name_of(file) == "__main__.py":
            continue
        for name, line in imports(file):
            assert not name.startswith("heliosfs.cli"), f"{name_of(file)}:{line}: the command is no library"


def test_commands_do_not_import_each_other() -> None:
    from heliosfs.cli.main import COMMANDS

    for file in (PACKAGE / "cli").glob("*.py"):
        for name, line in imports(file):
            parts = name.split(".")
            if parts[:2] == ["heliosfs", "cli"] and len(parts) > 3:
                assert parts[2] not in COMMANDS, f"{name_of(file)}:{line}: share through a file that is no command"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_sizes(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= LINES_MAX, f"{name_of(file)} is too long for one noun"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{name_of(file)}:{node.lineno}: {node.name} does not fit a screen"


@pytest.mark.parametrize("file", [file for file in FILES if file.stat().st_size], ids=name_of)
def test_every_module_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_bytes())), f"{name_of(file)} has no docstring"


@pytest.mark.parametrize("command", LIGHT_COMMANDS)
def test_commands_that_only_ask_stay_light(command: str) -> None:
    """What they import at the top, directly or through our own modules, holds nothing of the engine."""
    seen: set[Path] = set()
    pending = [PACKAGE / "cli" / "main.py", PACKAGE / "cli" / f"{command}.py"]
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        seen.add(file)
        for node in ast.parse(file.read_bytes()).body:
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or "", *(f"{node.module}.{n}" for n in names)]
            for module in modules:
                assert module.split(".")[0] not in HEAVY, f"{command} imports {module} through {name_of(file)}"
                path = PACKAGE.parent / module.replace(".", "/")
                pending += [each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()]
