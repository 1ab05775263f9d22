"""The figures of a volume."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heliosfs.volume.volume import Volume


def of(volume: "Volume") -> dict[str, Any]:
    """Figures for people and programs, by name. Sizes in bytes."""
    registry = volume.registry
    layers = registry.layers.values()
    return {
        "branches": len(registry.branches),
        "snapshots": sum(1 for _ in registry.snapshots()),
        "timed_states": sum(len(branch.timed) for branch in registry.branches.values()),
        "layers": len(registry.layers),
        "unsealed_layers": len(registry.unsealed),
        "unflushed_records": sum(layer.unflushed_records for layer in layers),
        "uncut_files": sum(len(layer.uncut) for layer in layers),
        "damaged_files": len(volume.background.damaged),
        **volume.store.objects.statistics.figures(),
        "journal_bytes": volume.engine.journal.size(),
        "operations": registry.next_operation() - 1,
        "flushes": volume.flushes,
        "cuts": volume.background.cuts,
        "seals": volume.background.seals,
        "inodes_in_memory": sum(len(view.inodes) for view in registry.views.values()),
        "open_unlinked_files": len(volume.engine.orphans),
        "collections": volume.upkeep.collections,
        "dropped_bytes": volume.engine.dropped_bytes,
    }
