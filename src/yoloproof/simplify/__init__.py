"""Exact rewrites: a trained network as a faster network with the same function."""

from yoloproof.simplify.rewrites import DEFAULT_REWRITES, REWRITES, SimplifiedNetwork, simplify

__all__ = ["DEFAULT_REWRITES", "REWRITES", "SimplifiedNetwork", "simplify"]
