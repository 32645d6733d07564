"""Machine facts, clocks, protocols, samples, statistics, stability."""
