"""One process that serves one store at one mountpoint: start, log, signals, ordered end.

`mounts`, `holders` and `background` use the standard library alone, because commands that must
answer at once import them too; `daemon` is what pulls in the engine.
"""
