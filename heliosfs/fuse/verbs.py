"""The verbs: what `.heliosfs/call` and the files beside it can be asked to do.

Names are bytes on disk and text in requests and replies, by surrogate escapes. Every verb checks the rights
of who asks: see `rights`.
"""

import errno
from collections.abc import Awaitable, Callable
from typing import Any

from heliosfs.base.errors import Refusal
from heliosfs.base.quoting import shown
from heliosfs.fuse import magic
from heliosfs.fuse.arguments import Arguments, name_in, notes_of, paths_of, text_of
from heliosfs.fuse.commits import GroupCommit
from heliosfs.fuse.comparing import Comparing
from heliosfs.fuse.going_back import GoingBack
from heliosfs.fuse.handles import Handles
from heliosfs.fuse.importing import Importing
from heliosfs.fuse.inode_table import InodeTable
from heliosfs.fuse.keeping import Keeping, find_snapshot
from heliosfs.fuse.kernel_cache import KernelCache
from heliosfs.fuse.outside import Outside
from heliosfs.fuse.rights import Requester, check_is_owner, check_may_write
from heliosfs.fuse.stepwise import stepwise
from heliosfs.fuse.switching import Switcher
from heliosfs.fuse.trees import Tree, Trees, container_number, name_of, text
from heliosfs.fuse.upkeep_verbs import UpkeepVerbs
from heliosfs.volume import conflicts, lineage, log_check, merge
from heliosfs.volume.branch import Branch, Snapshot
from heliosfs.volume.operations import Operation
from heliosfs.volume.time_machine import is_kept
from heliosfs.volume.volume import Volume

MERGE_ATTEMPTS = 3
"""A merge whose target changes again and again while it is prepared is done while requests wait after so many."""

Verb = Callable[[Tree, Arguments, Requester], Awaitable[Any]]


class Verbs:
    """Carries them out."""

    def __init__(
        self,
        volume: Volume,
        trees: Trees,
        table: InodeTable,
        acl: bool,
        cache: KernelCache,
        handles: Handles,
        switcher: Switcher,
        commits: GroupCommit,
        flush: Callable[[], Awaitable[None]],
        facts: Callable[[], dict[str, Any]],
        statistics: Callable[[], dict[str, Any]],
        upkeep: UpkeepVerbs,
    ) -> None:
        self._volume = volume
        self._trees = trees
        self._cache = cache
        self._handles = handles
        self._switcher = switcher
        self._commits = commits
        self._facts = facts
        self._statistics = statistics
        self._reports: dict[int, dict[str, Any]] = {}
        """What the last restore, undo or merge of a branch did, by branch id."""
        self._going_back = GoingBack(volume, cache, handles, switcher, self._report)
        self.comparing = Comparing(volume, cache, handles)
        keeping = Keeping(volume)
        importing = Importing(volume, trees, table, cache, acl)
        outside = Outside(volume, cache, handles, flush)
        self._verbs: dict[str, Verb] = {
            "status": self._status,
            "stats": self._stats,
            "sync": self._sync,
            "import": importing.perform,
            "import.progress": importing.progress,
            "import.stop": importing.stop,
            "state.show": outside.show,
            "state.hide": outside.hide,
            "apply.begin": outside.begin,
            "apply.end": outside.end,
            "base.take": outside.take,
            "log": self._log,
            "log.verify": self._log_verify,
            "tree": self._tree,
            "snapshot.create": self._snapshot_create,
            "snapshot.list": self._snapshot_list,
            "snapshot.show": self._snapshot_show,
            "snapshot.hold": keeping.hold,
            "snapshot.release": keeping.release,
            "config": keeping.config,
            "snapshot.rename": self._snapshot_rename,
            "snapshot.delete": self._snapshot_delete,
            "branch.create": self._branch_create,
            "branch.list": self._branch_list,
            "branch.show": self._branch_show,
            "branch.rename": self._branch_rename,
            "branch.delete": self._branch_delete,
            "changes": self.comparing.changes,
            "diff": self.comparing.diff,
            "restore": self._going_back.restore,
            "undo": self._going_back.undo,
            "merge": self._merge,
            "conflicts": self._conflicts,
            "resolve": self._resolve,
            "gc": upkeep.gc,
            "gc.status": upkeep.gc_status,
            "gc.stop": upkeep.gc_stop,
        }

    async def perform(self, tree: Tree, verb: str, arguments: Arguments, requester: Requester) -> Any:
        """The result of a verb."""
        perform = self._verbs.get(verb)
        if perform is None:
            known = ", ".join(sorted(self._verbs))
            raise Refusal(errno.ENOSYS, f"there is no verb {verb!r}; there are {known}")
        return await perform(tree, arguments, requester)

    async def act(self, tree: Tree, verb: str, word: str, requester: Requester) -> None:
        """What writing a word to the file of a verb does."""
        if verb == "undo":
            if word and not word.isdecimal():
                raise Refusal(errno.EINVAL, "undo takes the number of an operation, or nothing")
            await self._going_back.undo(tree, {"operation": int(word)} if word else {}, requester)
        elif verb == "restore":
            await self._going_back.restore(tree, {"state": word}, requester)
        else:
            await self.perform(tree, verb, {"branch": word}, requester)

    # Looking

    def status(self, tree: Tree) -> dict[str, Any]:
        """How the mount and a tree are doing."""
        owner = tree.owner()
        return {
            **self._facts(),
            "branch": "/".join(map(text, owner.path())),
            "snapshot": text(tree.source.name) if isinstance(tree.source, Snapshot) else None,
            "snapshots": len(tree.snapshots()),
            "branches": len(tree.children()),
            "last": self._reports.get(owner.id),
            "base": self._volume.taking_in.status(),
        }

    def log_text(self, tree: Tree) -> bytes:
        """The operations of a tree, newest first, one a line."""
        lines = []
        for each in self._operations(tree, 0):
            lines.append(f"{each['number']}\t{each['time']}\t{each['uid']}\t{shown(each['what'])}\n")
        return "".join(lines).encode("utf-8", "surrogateescape")

    def is_state(self, tree: Tree, name: str) -> bool:
        """Whether a name means a state that can be compared."""
        try:
            self._volume.state(tree.owner(), name)
        except Refusal:
            return False
        return True

    async def _status(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        return self.status(tree)

    async def _stats(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        return {**self._volume.statistics(), **self._statistics()}

    async def _sync(self, tree: Tree, arguments: Arguments, requester: Requester) -> None:
        if self._handles.mappable:
            await self._cache.write_back()
        await self._commits.wait()

    async def _log(self, tree: Tree, arguments: Arguments, requester: Requester) -> list[dict[str, Any]]:
        limit = arguments.get("limit") or 0
        if not isinstance(limit, int) or limit < 0:
            raise Refusal(errno.EINVAL, "limit is a number of operations")
        return self._operations(tree, limit)

    def _operations(self, tree: Tree, limit: int) -> list[dict[str, Any]]:
        found = self._volume.log(tree.owner())[-limit:]
        return [self._operation(each) for each in reversed(found)]

    def _operation(self, operation: Operation) -> dict[str, Any]:
        return {
            "number": operation.number,
            "time": operation.time,
            "uid": operation.uid,
            "pid": operation.pid,
            "command": text(operation.command),
            "verb": operation.verb,
            "what": f"{operation.verb} {operation.text}".rstrip(),
            "changes": log_check.changes_as_json(self._volume.registry, operation),
        }

    async def _log_verify(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        """Of the whole volume: the chain goes through the operations of all branches."""
        steps = log_check.verify(self._volume.store.database, self._volume.registry)
        checked, problems = await stepwise(steps)
        return {"checked": checked, "problems": problems}

    async def _tree(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        return await stepwise(lineage.lineage(self._volume.registry, tree.owner()))

    # Snapshots

    async def _snapshot_create(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        check_may_write(tree.root, requester)
        name = name_in(arguments)
        if self._handles.mappable:
            await self._cache.write_back()
        snapshot = self._volume.snapshot(
            tree.branch(),
            name,
            requester.caller(),
            message=text_of(arguments, "message", ""),
            notes=notes_of(arguments),
        )
        await self._members_changed(tree, magic.SNAPSHOTS)
        return _snapshot(snapshot)

    async def _snapshot_list(self, tree: Tree, arguments: Arguments, requester: Requester) -> list[dict[str, Any]]:
        """The named snapshots, or with `auto` the states that were kept by themselves; with `where` those that have
        all of these notes."""
        members = tree.timed() if arguments.get("auto") else tree.snapshots()
        wanted = notes_of(arguments, "where").items()
        found = [each for each in members.values() if wanted <= each.record.notes.items() and is_kept(each)]
        found.sort(key=lambda each: (each.created, each.name))
        return [_snapshot(each) for each in found]

    async def _snapshot_show(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        return _snapshot(find_snapshot(tree, name_in(arguments)))

    async def _snapshot_rename(self, tree: Tree, arguments: Arguments, requester: Requester) -> None:
        check_may_write(tree.root, requester)
        old, new = name_in(arguments, "old"), name_in(arguments, "new")
        self._volume.rename_snapshot(tree.branch(), old, new, requester.caller())
        await self._members_changed(tree, magic.SNAPSHOTS, old, new)

    async def _snapshot_delete(self, tree: Tree, arguments: Arguments, requester: Requester) -> None:
        check_may_write(tree.root, requester)
        name = name_in(arguments)
        self._volume.drop_snapshot(tree.branch(), name, requester.caller())
        await self._members_changed(tree, magic.SNAPSHOTS, name)

    # Branches

    async def _branch_create(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        check_may_write(tree.root, requester)
        name = name_in(arguments)
        source: Branch | Snapshot = tree.source
        if arguments.get("from") is not None:
            source = find_snapshot(tree, name_in(arguments, "from"))
        elif self._handles.mappable:
            await self._cache.write_back()
        branch = self._volume.fork(source, name, requester.caller())
        await self._members_changed(tree, magic.BRANCHES)
        return _branch(branch)

    async def _branch_list(self, tree: Tree, arguments: Arguments, requester: Requester) -> list[dict[str, Any]]:
        found = sorted(tree.children().values(), key=lambda each: (each.created, each.name))
        return [_branch(each) for each in found]

    async def _branch_show(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        return _branch(_find_branch(tree, name_in(arguments)))

    async def _branch_rename(self, tree: Tree, arguments: Arguments, requester: Requester) -> None:
        check_may_write(tree.root, requester)
        old, new = name_in(arguments, "old"), name_in(arguments, "new")
        self._volume.rename_branch(tree.owner(), old, new, requester.caller())
        await self._members_changed(tree, magic.BRANCHES, old, new)

    async def _branch_delete(self, tree: Tree, arguments: Arguments, requester: Requester) -> None:
        check_may_write(tree.root, requester)
        name = name_in(arguments)
        await self._trees.check_not_mounted(_find_branch(tree, name))
        self._volume.drop_branch(tree.owner(), name, requester.caller())
        await self._members_changed(tree, magic.BRANCHES, name)

    async def _members_changed(self, tree: Tree, container: int, *names: bytes) -> None:
        """Have the kernel look again at .snapshots or .branches."""
        tree.note_change(container)
        number = container_number(tree, container)
        await self._cache.forget(attributes=[number], names=[(number, name) for name in names])

    # Merging

    async def _merge(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        word = text_of(arguments, "branch")
        source = _find_below(tree, word)
        target = _find_below(tree, text_of(arguments, "into", "."))
        check_is_owner(target.view.root, requester)
        dry_run = bool(arguments.get("dry_run"))
        options: dict[str, Any] = {
            "strategy": text_of(arguments, "strategy") if arguments.get("strategy") is not None else None,
            "paths": paths_of(arguments),
            "message": text_of(arguments, "message", ""),
        }
        report = await self._merged(target, source, requester, options, dry_run)
        shown = await stepwise(merge.as_json(report, target))
        if dry_run:
            return {"verb": "merge", "branch": word, "dry_run": True, **shown}
        names = (conflicts.base_name(report.number), conflicts.theirs_name(report.number))
        await self._members_changed(self._trees.add(target), magic.SNAPSHOTS, *(names if report.conflicts else ()))
        self._report(target, {"verb": "merge", "branch": word, **shown, "changes": len(report.changes)})
        return {"verb": "merge", "branch": word, **shown}

    async def _merged(
        self, target: Branch, source: Branch, requester: Requester, options: dict[str, Any], dry_run: bool
    ) -> merge.Report:
        """Merge, in steps as long as the target is left alone meanwhile."""
        for _ in range(MERGE_ATTEMPTS - 1):
            if self._handles.mappable:
                await self._cache.write_back()
            steps = merge.prepare(self._volume.registry, target, source, requester.caller(), **options)
            prepared: merge.Prepared = await stepwise(steps)
            try:
                if dry_run or await self._switched(target, prepared):
                    return prepared.report
            finally:
                prepared.release()
        report = merge.Report()

        def act() -> list[tuple[Branch, set[int]]]:
            nonlocal report
            report = self._volume.merge(target, source, requester.caller(), **options)
            return [(target, report.changed)]

        await self._switcher.switch(target, act)
        return report

    async def _switched(self, target: Branch, prepared: merge.Prepared) -> bool:
        """Switch the target to what was prepared, unless it has changed."""
        done = False

        def act() -> list[tuple[Branch, set[int]]]:
            nonlocal done
            if not prepared.is_current():
                return []
            done = True
            return [(target, prepared.commit().changed)]

        await self._switcher.switch(target, act)
        return done

    async def _conflicts(self, tree: Tree, arguments: Arguments, requester: Requester) -> list[dict[str, Any]]:
        return conflicts.open_conflicts(tree.branch())

    async def _resolve(self, tree: Tree, arguments: Arguments, requester: Requester) -> dict[str, Any]:
        check_is_owner(tree.root, requester)
        branch = tree.branch()
        path, how = text_of(arguments, "path"), text_of(arguments, "how")
        before = set(branch.snapshots)

        def act() -> list[tuple[Branch, set[int]]]:
            return [(branch, self._volume.resolve(branch, name_of(path), how, requester.caller()))]

        await self._switcher.switch(branch, act)
        await self._members_changed(tree, magic.SNAPSHOTS, *(before - branch.snapshots.keys()))
        return self._report(branch, {"verb": "resolve", "path": path, "left": len(self._volume.conflicts(branch))})

    def _report(self, branch: Branch, report: dict[str, Any]) -> dict[str, Any]:
        self._reports[branch.id] = report
        return report


def _find_branch(tree: Tree, name: bytes) -> Branch:
    branch = tree.children().get(name)
    if branch is None:
        raise Refusal(errno.ENOENT, f"there is no branch named {text(name)!r}")
    return branch


def _find_below(tree: Tree, word: str) -> Branch:
    """A branch by the names that lead to it from a tree; `.` is the tree's own."""
    found = tree.branch()
    for name in name_of(word).split(b"/"):
        if name not in (b"", b"."):
            if name not in found.children:
                raise Refusal(errno.ENOENT, f"there is no branch named {word!r}")
            found = found.children[name]
    return found


def _snapshot(snapshot: Snapshot) -> dict[str, Any]:
    record = snapshot.record
    shown: dict[str, Any] = {"name": text(snapshot.name), "created": record.created, "uid": record.uid}
    if record.message:
        shown["message"] = record.message
    if record.notes:
        shown["notes"] = record.notes
    if record.file:
        shown["file"] = True
    if record.held:
        shown["held"] = True
    if record.filling:
        shown["filling"] = record.filling
    return shown


def _branch(branch: Branch) -> dict[str, Any]:
    return {
        "name": text(branch.name),
        "created": branch.created,
        "uid": branch.uid,
        "snapshots": len(branch.snapshots),
        "branches": len(branch.children),
    }
