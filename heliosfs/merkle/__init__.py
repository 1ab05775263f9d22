"""Merkle trees: sorted maps as immutable nodes. Knows nothing of files."""

from heliosfs.merkle.difference import Difference
from heliosfs.merkle.edit import EMPTY, Change
from heliosfs.merkle.merge import Divergence, divergences
from heliosfs.merkle.node import NODE, Node
from heliosfs.merkle.nodes import NodeStore
from heliosfs.merkle.tree import Tree

__all__ = ["EMPTY", "NODE", "Change", "Difference", "Divergence", "Node", "NodeStore", "Tree", "divergences"]
