"""The benchmark: the same work on a HeliosFS mount and on the filesystems to compare it with.

`places` are the filesystems, `works` what is done on each, `checkpoints` what only some of them can do, `scale` what
should not depend on the size of a volume, `tree` the files that it is done with, `rounds` the order in which all this
runs, `report` what is printed. `scripts/bench` puts them together.
"""
