"""The floors hold: imports go downward only, and the rules that keep each floor small.

A failure here is no formality. An import upward ties two floors into one; say what the lower floor needs
as a parameter or a protocol instead.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from heliosfs.cli.main import COMMANDS

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

STANDALONE_COMMANDS = {"mount", "fsck"}
"""The commands that bring the engine with them. All others must answer at once."""

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
            assert node.level == 0, f"{name_of(file)}:{node.lineno}: write the module's whole name"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def test_imports_go_downward() -> None:
    wrong = []
    for file in FILES:
        floor = name_of(file).split("/")[0]
        for name, line in imports(file):
            parts = name.split(".")
            upward = parts[0] == "heliosfs" and len(parts) > 1 and parts[1] in BELOW
            if floor in BELOW and upward and parts[1] not in [floor, *BELOW[floor]]:
                wrong.append(f"{name_of(file)}:{line}: {floor} may not import {name}")
    assert not wrong


def test_every_folder_is_a_floor() -> None:
    assert {name_of(file).split("/")[0] for file in FILES if "/" in name_of(file)} <= set(BELOW)


def test_libraries_are_used_in_their_place_alone() -> None:
    wrong = []
    for file in FILES:
        for name, line in imports(file):
            allowed = ONLY_IN.get(name.split(".")[0])
            if allowed is not None and not name_of(file).startswith(tuple(allowed)):
                wrong.append(f"{name_of(file)}:{line}: only {', '.join(allowed)} may import {name}")
    assert not wrong


def test_the_command_is_no_library() -> None:
    for file in FILES:
        if not name_of(file).startswith("cli/") and name_of(file) != "__main__.py":
            for name, line in imports(file):
                assert not name.startswith("heliosfs.cli"), f"{name_of(file)}:{line} imports {name}"


def test_commands_do_not_import_each_other() -> None:
    for file in (PACKAGE / "cli").glob("*.py"):
        for name, line in imports(file):
            parts = name.split(".")
            if parts[:2] == ["heliosfs", "cli"] and len(parts) > 3:
                assert parts[2] not in COMMANDS, f"{name_of(file)}:{line}: share in a file that is no command"


def test_every_command_has_its_file() -> None:
    for name in COMMANDS:
        assert (PACKAGE / "cli" / f"{name}.py").is_file()


def test_files_and_functions_stay_small() -> None:
    wrong = []
    for file in FILES:
        text = file.read_text()
        if len(text.splitlines()) > LINES_MAX:
            wrong.append(f"{name_of(file)} is too long for one noun")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    wrong.append(f"{name_of(file)}:{node.lineno}: {node.name} does not fit a screen")
    assert not wrong


def test_every_module_says_what_it_is() -> None:
    assert not [name_of(file) for file in FILES if not ast.get_docstring(ast.parse(file.read_bytes()))]


def test_commands_that_only_ask_are_light() -> None:
    """What they import at the top, themselves or through our own modules, holds nothing of the engine."""
    wrong = []
    pending = [
        PACKAGE / "cli" / f"{name}.py" for name in ["main", *COMMANDS] if name not in STANDALONE_COMMANDS
    ]
    seen: set[Path] = set()
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        seen.add(file)
        for module in top_imports(file):
            if module.split(".")[0] in HEAVY:
                wrong.append(f"{name_of(file)} imports {module}")
            path = PACKAGE.parent / module.replace(".", "/")
            pending += [each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()]
    assert not wrong


def top_imports(file: Path) -> Iterator[str]:
    """Modules imported when the file is; also the names taken from them, which may be modules as well."""
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
