"""The differential fuzzer: the same random system calls on a mount and on the host's filesystem, compared.

`steps` makes programs from a seed, `worker` carries steps out in a process of its own, `duel` runs a program
on both sides and compares, `shrink` makes a failing program small.
"""
