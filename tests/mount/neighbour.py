"""A process that works in the branches beside one that is being tested, and must not be noticed there.

Run by its path: `neighbour.py SEED TESTED [OTHER...]`, where TESTED is the tree root under test and OTHER are roots
that the neighbour may change. It forks and snapshots TESTED but changes nothing in it; in the forks and in OTHER it
writes, damages what it finds of the tested files, checkpoints, restores, merges and drops. Meanwhile it knows what
its own files hold, so it would notice as well. It ends when its standard input does, and says on its standard output,
in JSON, how often it did what, or what was wrong. Imports nothing of ours. `NeighbourProcess` starts and ends one.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

OWN = "neighbour"
"""The directory of its own files in each branch, and the beginning of all names it gives."""
FORKS_MAX = 4
SNAPSHOTS_MAX = 4

Files = dict[str, bytes]


class Fork:
    """A branch that belongs to the neighbour, with what its own files hold, now and in snapshots."""

    def __init__(self, root: Path, files: Files, lasting: bool = False) -> None:
        self.root = root
        self.files = files
        self.lasting = lasting
        self.snapshots: dict[str, Files] = {}
        self.children: list[Fork] = []
        self.parent: Fork | None = None

    @property
    def own(self) -> Path:
        return self.root / OWN


class Neighbour:
    """One action after the other, chosen by chance."""

    def __init__(self, seed: int, tested: Path, others: list[Path]) -> None:
        self.chance = random.Random(seed)
        self.tested = tested
        self.forks = [Fork(root, {}, lasting=True) for root in others]
        self.snapshots: list[str] = []
        self.done: Counter[str] = Counter()
        self.made = 0
        for fork in self.forks:
            shutil.rmtree(fork.own, ignore_errors=True)
            fork.own.mkdir()

    ACTIONS: dict[str, int] = {
        "fork": 4, "drop": 3, "rename": 1, "write": 20, "remove": 3, "damage": 6, "checkpoint": 4, "restore": 3,
        "merge": 1, "snapshot": 3, "check": 4, "sync": 1,
    }  # fmt: skip

    def act(self) -> None:
        name = self.chance.choices(list(self.ACTIONS), list(self.ACTIONS.values()))[0]
        if name not in ("fork", "snapshot", "sync") and not self.forks:
            return
        action: Callable[[], object] = getattr(self, f"_{name}")
        action()
        self.done[name] += 1

    def _name(self) -> str:
        self.made += 1
        return f"{OWN}-{os.getpid()}-{self.made}"

    def _any(self) -> Fork:
        return self.chance.choice(self.forks)

    def _fork(self) -> None:
        """Of the tested tree, or of one of its own."""
        parent = self.chance.choice([None, None, *self.forks])
        if sum(not fork.lasting for fork in self.forks) >= FORKS_MAX:
            return
        root = (parent.root if parent else self.tested) / ".branches" / self._name()
        root.mkdir()
        fork = Fork(root, dict(parent.files) if parent else {})
        if parent:
            parent.children.append(fork)
            fork.parent = parent
        if not parent:
            fork.own.mkdir()
        self.forks.append(fork)

    def _drop(self) -> None:
        fork = self._any()
        if fork.lasting or fork.children:
            return
        self._compare(fork)
        fork.root.rmdir()
        self._forget(fork)

    def _forget(self, fork: Fork) -> None:
        self.forks.remove(fork)
        if fork.parent:
            fork.parent.children.remove(fork)

    def _rename(self) -> None:
        fork = self._any()
        if fork.lasting or fork.children:
            return
        target = fork.root.with_name(self._name())
        fork.root.rename(target)
        fork.root = target

    def _write(self) -> None:
        fork = self._any()
        name = f"f{self.chance.randrange(6)}"
        offset = self.chance.choice((0, 0, 10, 5_000, 100_000))
        data = self.chance.randbytes(self.chance.choice((1, 100, 4096, 30_000, 150_000)))
        old = fork.files.get(name, b"")
        descriptor = os.open(fork.own / name, os.O_WRONLY | os.O_CREAT)
        try:
            os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)
        fork.files[name] = old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]

    def _remove(self) -> None:
        fork = self._any()
        if not fork.files:
            return
        name = self.chance.choice(sorted(fork.files))
        content = fork.files.pop(name)
        if self.chance.randrange(2):
            (fork.own / name).unlink()
        else:
            (fork.own / name).rename(fork.own / "moved")
            fork.files["moved"] = content

    def _damage(self) -> None:
        """Change some of the tested files in a fork, which is nothing to the original."""
        fork = self._any()
        places = [Path(where) / name for where, _, names in os.walk(fork.root) for name in names if OWN not in where]
        for path in self.chance.sample(places, min(5, len(places))):
            how = self.chance.randrange(4)
            # What the tested program does may have left anything: fifos, files without rights, loops.
            with contextlib.suppress(OSError):
                if how == 0:
                    path.unlink()
                elif how == 1:
                    path.rename(path.with_name("damaged"))
                elif path.is_file() and not path.is_symlink():
                    os.truncate(path, self.chance.randrange(70_000))
                    if how == 3:
                        path.write_bytes(self.chance.randbytes(10_000))

    def _checkpoint(self) -> None:
        fork = self._any()
        if len(fork.snapshots) >= SNAPSHOTS_MAX:
            oldest = next(iter(fork.snapshots))
            self._compare_files(fork.root / ".snapshots" / oldest / OWN, fork.snapshots.pop(oldest))
            (fork.root / ".snapshots" / oldest).rmdir()
        name = self._name()
        (fork.root / ".snapshots" / name).mkdir()
        fork.snapshots[name] = dict(fork.files)

    def _restore(self) -> None:
        fork = self._any()
        if fork.snapshots:
            name = self.chance.choice(list(fork.snapshots))
            (fork.root / ".heliosfs" / "restore").write_text(name)
            fork.files = dict(fork.snapshots[name])
            self._compare(fork)

    def _merge(self) -> None:
        """Of a child into its parent; what conflicts is left as it is."""
        for fork in self.forks:
            if fork.children and not fork.lasting:
                # EEXIST and the like: a merge that conflicts says so, and that is no fault.
                with contextlib.suppress(OSError):
                    (fork.root / ".heliosfs" / "merge").write_text(fork.children[0].root.name)
                fork.files = {path.name: path.read_bytes() for path in fork.own.iterdir()}
                return

    def _snapshot(self) -> None:
        """Of the tested tree."""
        if len(self.snapshots) >= SNAPSHOTS_MAX:
            (self.tested / ".snapshots" / self.snapshots.pop(0)).rmdir()
        self.snapshots.append(self._name())
        (self.tested / ".snapshots" / self.snapshots[-1]).mkdir()

    def _sync(self) -> None:
        descriptor = os.open(self.tested / ".heliosfs" / "call", os.O_RDWR)
        try:
            os.write(descriptor, json.dumps({"verb": "sync", "arguments": {}}).encode())
            answer = json.loads(os.read(descriptor, 1 << 16))
        finally:
            os.close(descriptor)
        assert answer["ok"], answer

    def _check(self) -> None:
        self._compare(self._any())

    def _compare(self, fork: Fork) -> None:
        self._compare_files(fork.own, fork.files)

    def _compare_files(self, directory: Path, files: Files) -> None:
        names = sorted(os.listdir(directory))
        assert names == sorted(files), f"{directory} holds {names} and not {sorted(files)}"
        for name, content in files.items():
            assert (directory / name).read_bytes() == content, f"{directory / name} does not hold what was written"

    def clear(self) -> None:
        """Check everything a last time and leave nothing behind."""
        for name in self.snapshots:
            (self.tested / ".snapshots" / name).rmdir()
        for fork in reversed(list(self.forks)):  # children come after their parents
            self._compare(fork)
            for name, files in fork.snapshots.items():
                self._compare_files(fork.root / ".snapshots" / name / OWN, files)
                (fork.root / ".snapshots" / name).rmdir()
            if fork.lasting:
                shutil.rmtree(fork.own)
            else:
                fork.root.rmdir()


class NeighbourProcess:
    """A neighbour at work, until `finish` or `end`."""

    def __init__(self, seed: int, tested: Path, others: Sequence[Path] = ()) -> None:
        self.done: dict[str, int] = {}
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(seed), str(tested), *map(str, others)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> str:
        """Have it check everything a last time; what it found wrong."""
        said, _ = self._process.communicate()
        if not said:
            return f"the neighbour ended with {self._process.returncode}"
        told = json.loads(said)
        self.done = told["done"]
        problem: str = told["problem"]
        return problem

    def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


def main() -> None:
    seed, tested, *others = sys.argv[1:]
    problem = ""
    neighbour = Neighbour(int(seed), Path(tested), [Path(other) for other in others])
    try:
        while not select.select([sys.stdin], [], [], 0)[0]:
            neighbour.act()
        neighbour.clear()
    except Exception:
        problem = traceback.format_exc()
    print(json.dumps({"done": neighbour.done, "problem": problem}), flush=True)


if __name__ == "__main__":
    main()
