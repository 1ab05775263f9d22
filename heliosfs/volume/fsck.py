"""fsck: check every object of a store and every state that has a name.

Nothing is changed. Damage of any kind becomes a sentence in the report. A state that several branches and
snapshots share is checked once, and a problem that several states have is said once, with their names.
"""

import logging
import struct
from collections.abc import Callable, Iterator
from stat import S_IFDIR, S_IFMT

from heliosfs.base.errors import Corruption, HeliosError, Refusal
from heliosfs.base.quoting import shown
from heliosfs.base.records import BASE, CHUNK, HOLE, INLINE, WRITTEN, Extent
from heliosfs.layers.layer import Layer
from heliosfs.store.objects import NODE
from heliosfs.store.store import Store
from heliosfs.view.view import View
from heliosfs.volume import operations
from heliosfs.volume.branch import Branch
from heliosfs.volume.check_tree import TreeCheck
from heliosfs.volume.scratch_root import ScratchRoots
from heliosfs.volume.state_tree import StateTree
from heliosfs.volume.volume import Volume

Progress = Callable[[str, int, int], None]
"""Told what is being checked, how many are done, and of how many (0 when that is not known)."""

_STEP_OBJECTS = 200
_NAMES_MAX = 4
_HIT_MAX = 1000
"""Files for which another state is looked for: each is read in every state."""
_READ_BYTES = 1 << 20

_log = logging.getLogger(__name__)


class Report:
    """What a check found. `files` counts the inodes of all checked states that are no directories, each once."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.objects = 0
        self.files = 0
        self.bad: set[bytes] = set()
        """Objects that are damaged or missing."""
        self.elsewhere: list[str] = []
        """In which other states files with damaged content can be read."""


def check(store: Store, progress: Progress | None = None) -> Report:
    """Check a store that was opened read-only. HeliosError when there is no volume in it at all."""
    fsck = _Check(store, progress or (lambda what, done, total: None))
    fsck.run()
    return fsck.report


class _Check:
    """One run."""

    def __init__(self, store: Store, progress: Progress) -> None:
        self.report = Report()
        self._store = store
        self._progress = progress
        self._lengths: dict[bytes, int] = {}
        """The raw lengths of the good objects."""
        self._bad: dict[bytes, str] = {}
        """What is wrong with the others."""
        self._kinds: dict[bytes, int] = {}
        self._written: dict[int, int | str] = {}
        """Position in the journal -> length of the data there, or what is wrong with it."""
        self._blamed: set[bytes] = set()
        """Damaged objects that some state refers to."""
        self._files: set[int] = set()
        self._hit: dict[int, str] = {}
        """Files with damaged content: inode number -> what it is called in one of the states."""
        self._roots: ScratchRoots | None = None
        self._well: tuple[bytes, StateTree, TreeCheck] | None = None
        """The last tree in which all was well: another one that differs little is checked where it does."""

    def run(self) -> None:
        """Everything, in an order that lets the states know which objects are damaged."""
        volume = self._open()
        self._check_objects()
        if volume is not None:
            self._check_journal(volume)
            self._check_log(volume)
            self._check_states(volume)
        for digest, fault in self._bad.items():
            if digest not in self._blamed:
                kind = "node" if self._kinds.get(digest) == NODE else "piece of content"
                self._problem(f"{fault}; no branch or snapshot was found to have this {kind}")
        self.report.files = len(self._files)
        self.report.bad = set(self._bad)
        if volume is not None:
            self._look_elsewhere(volume)

    def _problem(self, sentence: str) -> None:
        self.report.problems.append(sentence)

    def _open(self) -> Volume | None:
        """The volume, or None when what the store says of it cannot be taken in."""
        try:
            return Volume.open(self._store)
        except (Corruption, OSError) as damage:
            self._problem(f"the volume cannot be opened, so its files were not checked: {damage}")
        except HeliosError:
            raise
        except Exception as failure:
            # Records that check, but contradict each other, can trip any assertion of what takes them in.
            _log.debug("opening the volume", exc_info=True)
            self._problem(
                "the volume cannot be opened, so its files were not checked: what the database and the journal say "
                f"contradicts itself ({type(failure).__name__}: {failure})"
            )
        return None

    def _check_objects(self) -> None:
        objects = self._store.objects
        total = max(objects.statistics.objects, 0)
        try:
            for digest, kind, location in objects.iterate():
                self.report.objects += 1
                self._kinds[digest] = kind
                fault = self._object_fault(digest)
                if fault:
                    self._bad[digest] = fault
                else:
                    self._lengths[digest] = location.raw_length
                if self.report.objects % _STEP_OBJECTS == 0:
                    self._progress("objects", self.report.objects, max(total, self.report.objects))
        except (HeliosError, OSError, struct.error) as damage:
            self._problem(f"the index of objects cannot be read to its end: {damage}")
        self._progress("objects", self.report.objects, self.report.objects)

    def _object_fault(self, digest: bytes) -> str:
        try:
            self._store.objects.verify(digest)
        except (HeliosError, OSError, struct.error) as damage:
            return str(damage)
        return ""

    def _check_journal(self, volume: Volume) -> None:
        lost = volume.store.journal.lost
        if lost:
            self._problem(
                f"the last {lost} bytes of the journal are no whole records: what was done there is lost (after a "
                "power cut that is what was not synced; the next mount sets the bytes aside)"
            )

    def _check_log(self, volume: Volume) -> None:
        log = list(volume.registry.log)
        if not log:
            return
        previous = log[0].previous if log[0].number > 1 else operations.FIRST_HASH
        for problem in operations.verify(log, previous):
            self._problem(f"the operation log: {problem}")

    def _check_states(self, volume: Volume) -> None:
        """Each state once, with the names of all that have it."""
        self._roots = ScratchRoots(volume.engine.objects, volume.registry.layers)
        shared: dict[bytes | int, tuple[Layer, list[str]]] = {}
        for name, state in _states(volume):
            if isinstance(state, Layer):
                while state.root is None and not state.deltas and state.below is not None and state.below.id < state.id:
                    state = state.below
                key = state.id if state.root is None else state.root
                shared.setdefault(key, (state, []))[1].append(name)
            else:
                self._problem(f"{name}: layer {state}, which is missing")
        found: dict[str, list[str]] = {}
        for done, (layer, names) in enumerate(shared.values()):
            self._progress("states", done, len(shared))
            for problem in self._check_state(volume, layer):
                found.setdefault(problem, []).extend(names)
        self._progress("states", len(shared), len(shared))
        for problem, names in found.items():
            more = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
            self._problem(f"{', '.join(names[:_NAMES_MAX])}{more}: {problem}")

    def _check_state(self, volume: Volume, layer: Layer) -> Iterator[str]:
        root = self._root(layer)
        if root and self._is_well(root):
            return
        tree = StateTree(volume.engine.tree.nodes, layer)
        for digest in tree.digests - self._kinds.keys():
            # Not in what was read of the index.
            fault = self._object_fault(digest)
            if fault:
                self._bad.setdefault(digest, fault)
        self._blamed.update(tree.digests & self._bad.keys())
        tree_check = TreeCheck(tree, volume.engine.next_ino, self._source_fault)
        problems = list(tree_check.run())
        for ino in tree_check.unreadable:
            if len(self._hit) < _HIT_MAX:
                self._hit.setdefault(ino, tree_check.name(ino))
        yield from problems
        self._count(tree_check)
        if root and not problems:
            self._well = root, tree, tree_check

    def _look_elsewhere(self, volume: Volume) -> None:
        """In which states the files can be read that cannot be in another."""
        for ino, name in self._hit.items():
            found = [
                state
                for state, layer in _states(volume)
                if isinstance(layer, Layer) and _is_readable(volume, layer, ino)
            ]
            if found:
                more = f" and {len(found) - _NAMES_MAX} more" if len(found) > _NAMES_MAX else ""
                self.report.elsewhere.append(f"{name} can be read in: {', '.join(found[-_NAMES_MAX:])}{more}")

    def _root(self, layer: Layer) -> bytes | None:
        """The root of a state, made up when it is not sealed; None when it has none for now, or is damaged."""
        assert self._roots is not None
        try:
            return layer.root or self._roots.root(layer)
        except (HeliosError, OSError, OverflowError, AssertionError, struct.error):
            return None

    def _is_well(self, root: bytes) -> bool:
        """Whether all is well in a tree, seen from the last one; False also when only a full check can tell."""
        if self._well is None:
            return False
        assert self._roots is not None
        known, tree, tree_check = self._well
        self._well = None
        try:
            affected = tree.advance(self._roots.tree, known, root)
        except (HeliosError, OSError, OverflowError, struct.error):
            return False
        if not tree_check.still_holds(affected):
            return False
        self._count(tree_check, affected)
        self._well = root, tree, tree_check
        return True

    def _count(self, tree_check: TreeCheck, among: set[int] | None = None) -> None:
        records = tree_check.records
        inos = records.keys() if among is None else records.keys() & among
        self._files.update(ino for ino in inos if S_IFMT(records[ino].mode) != S_IFDIR)

    def _source_fault(self, extent: Extent) -> str:
        """What is wrong with where the bytes of an extent are, or nothing."""
        start, end, kind, source, skip = extent
        length: int | str
        if kind == CHUNK and isinstance(source, bytes):
            length = self._chunk_length(source)
        elif kind == WRITTEN and isinstance(source, int):
            length = self._written_length(source)
        elif kind == INLINE and isinstance(source, bytes):
            length = len(source)
        else:
            return "" if kind in (HOLE, BASE) else f"the extent is of the unknown kind {kind}"
        if isinstance(length, str):
            return length
        needed = skip + end - start
        return f"their source has {length} bytes where {needed} are needed" if length < needed else ""

    def _chunk_length(self, digest: bytes) -> int | str:
        length = self._lengths.get(digest)
        if length is not None:
            return length
        fault = self._bad.get(digest)
        if fault is None:
            # Not in what was read of the index.
            try:
                length = self._lengths[digest] = len(self._store.objects.load(digest))
                return length
            except (HeliosError, OSError, struct.error) as damage:
                fault = self._bad[digest] = str(damage)
        self._blamed.add(digest)
        return fault

    def _written_length(self, position: int) -> int | str:
        known = self._written.get(position)
        if known is None:
            try:
                known = len(self._store.journal.read(position))
            except (HeliosError, OSError, struct.error, OverflowError) as damage:
                known = str(damage)
            self._written[position] = known
        return known


def _is_readable(volume: Volume, layer: Layer, ino: int) -> bool:
    """Whether a state has a file with that number, and all its content."""
    view = View(volume.engine, 0, layer, read_only=True)
    try:
        inode = view.inode(ino)
        if not inode.is_file:
            return False
        for offset in range(0, inode.size, _READ_BYTES):
            view.read(inode, offset, _READ_BYTES)
    except (HeliosError, Refusal, OSError, struct.error):
        return False
    return True


def _states(volume: Volume) -> Iterator[tuple[str, Layer | int]]:
    """(name, state or the id of a layer that is missing) of all that is to be checked."""
    layers = volume.registry.layers
    for branch in volume.registry.branches.values():
        name = _branch_name(branch)
        yield name, branch.view.top
        for snapshot in branch.snapshots.values():
            if snapshot.filling and snapshot.state.empty:
                continue
            of = "" if branch.parent is None else f" of {name}"
            yield f"snapshot {shown(snapshot.name)}{of}", snapshot.state
        for timed in branch.timed.values():
            yield f"the state {shown(timed.name)} of {name}", timed.state
        if branch.record.base:
            yield f"the state that {name} was forked from", layers.get(branch.record.base, branch.record.base)


def _branch_name(branch: Branch) -> str:
    return "the main branch" if branch.parent is None else f"branch {shown(b'/'.join(branch.path()))}"
