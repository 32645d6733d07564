"""Exact rewrites: a trained network as a faster network with the same function."""
