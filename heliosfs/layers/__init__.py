"""Layers: changes above a root, and what one reads through a stack of them.

Knows keys and extents, not the names of files. See `layer` for the shape of a state.
"""
