"""Is this artifact still the same detector?"""

from yoloproof.proof.accuracy import accuracy_parity
from yoloproof.proof.reference import Reference
from yoloproof.proof.verify import verify
from yoloproof.records import Check, Verdict

__all__ = ["Check", "Reference", "Verdict", "accuracy_parity", "verify"]
