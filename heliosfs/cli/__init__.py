"""The command `heliosfs`: one file per command. Nothing imports this floor as a library.

A command that only asks a mounted volume imports nothing of the engine, so that it answers at once.
"""
