"""The networks: blocks, wiring, checkpoints, exact simplification."""
