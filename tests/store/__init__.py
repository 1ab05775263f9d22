"""The store floor: journal, database, packs, chunker, objects, collector, store."""
