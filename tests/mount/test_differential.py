"""The differential fuzzer with fixed seeds (`scripts/fuzz` runs longer ones), and the fuzzer itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from .differential.duel import MOUNT_OPTIONS, Arena, HostArena, VolumeArena, duel
from .differential.shrink import shrink
from .differential.steps import DISTURBANCE, Step, program
from .support import on_host, root_only
from .volumes import mounted, scratch_directory

pytestmark = root_only  # what the programs take their own rights to must be compared all the same

PROCESSES = 3
ACL = bytes.fromhex("01000700ffffffff 02000700e8030000 04000500ffffffff 10000700ffffffff 20000500ffffffff")
"""Entries of a list that says more than permission bits do, as setxattr(2) takes them."""


@contextlib.contextmanager
def arena_of(options: Sequence[str]) -> Iterator[Arena]:
    with scratch_directory() as base:
        if on_host:
            yield HostArena(base)
        else:
            with mounted(options) as volume:
                yield VolumeArena(base, volume)


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with arena_of(MOUNT_OPTIONS) as made:
        yield made


@pytest.fixture(scope="module")
def busy_branch() -> Iterator[Arena]:
    """A branch of a volume that seals and flushes all the time, while a neighbour works beside it."""
    with scratch_directory() as base:
        if on_host:
            yield HostArena(base)
        else:
            with mounted(MOUNT_OPTIONS, small_limits=True) as volume:
                yield VolumeArena(base, volume, in_branch=True, busy=True)


@pytest.fixture(scope="module")
def arena_with_acl() -> Iterator[Arena]:
    with scratch_directory() as directory:
        try:
            os.setxattr(directory, "system.posix_acl_access", bytes.fromhex("02000000") + ACL)
        except OSError as error:
            pytest.skip(f"the host's filesystem has no access control lists: {error}")
    with arena_of([*MOUNT_OPTIONS, "acl"]) as made:
        yield made


@pytest.mark.parametrize("seed", range(1, 5))
def test_the_mount_behaves_as_the_host(arena: Arena, seed: int) -> None:
    found = duel(arena, program(seed, 1_500, PROCESSES), PROCESSES)
    assert found is None, f"scripts/fuzz --seed {seed} --steps 1500\n{found}"


@pytest.mark.parametrize("seed", range(101, 104))
def test_snapshots_forks_and_kills_disturb_nothing(arena: Arena, seed: int) -> None:
    found = duel(arena, program(seed, 600, PROCESSES, disturb=True), PROCESSES)
    assert found is None, f"scripts/fuzz --seed {seed} --steps 600 --disturb\n{found}"


@pytest.mark.parametrize("seed", range(301, 303))
def test_a_branch_behaves_as_the_host_while_others_change(busy_branch: Arena, seed: int) -> None:
    found = duel(busy_branch, program(seed, 500, PROCESSES, disturb=True), PROCESSES)
    how = "--disturb --in-branch --busy --small-limits"
    assert found is None, f"scripts/fuzz --seed {seed} --steps 500 {how}\n{found}"


def test_processes_behave_as_on_the_host_at_the_same_time(arena: Arena) -> None:
    found = duel(arena, program(401, 1_500, PROCESSES), PROCESSES, parallel=True)
    assert found is None, f"scripts/fuzz --seed 401 --steps 1500 --parallel\n{found}"


@pytest.mark.parametrize("seed", range(201, 203))
def test_access_control_lists_are_those_of_the_host(arena_with_acl: Arena, seed: int) -> None:
    found = duel(arena_with_acl, program(seed, 800, PROCESSES, acl=True), PROCESSES)
    assert found is None, f"scripts/fuzz --acl --seed {seed} --steps 800\n{found}"


class PlantedArena(HostArena):
    """Its disturbance writes into our side: a fault that the duel must find."""

    def disturb(self, kind: str, number: int, host: Path) -> None:
        (host.parent / host.name.replace("host", "ours") / "planted").touch()


def test_a_difference_is_found_and_shrunk() -> None:
    with scratch_directory() as base:
        planted = PlantedArena(base)
        steps: list[Step] = [
            *program(7, 12, PROCESSES),
            [DISTURBANCE, "plant", 0],
            *program(8, 12, PROCESSES),
        ]
        found = duel(planted, steps, PROCESSES)
        assert found is not None
        assert "planted" in f"{found}"
        small = shrink(steps, lambda candidate: duel(planted, candidate, PROCESSES) is not None, attempts=60)
        assert [DISTURBANCE, "plant", 0] in small
        assert len(small) <= 2


def test_a_program_depends_on_its_seed_alone() -> None:
    assert program(5, 200) == program(5, 200)
    assert program(5, 200) != program(6, 200)
    undisturbed = [step for step in program(5, 200, disturb=True) if step[0] != DISTURBANCE]
    assert undisturbed == program(5, 200)
