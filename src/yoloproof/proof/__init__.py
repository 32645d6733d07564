"""Is this artifact still the same detector? `verify` is in `yoloproof.proof.verify`."""
