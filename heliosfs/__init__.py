"""HeliosFS: a content-addressed filesystem that checkpoints, forks and rolls back whole trees at once."""

__version__ = "0.1.0"
