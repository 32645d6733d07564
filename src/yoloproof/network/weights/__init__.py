"""Checkpoints: reading, checking and fetching them."""
