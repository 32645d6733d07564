"""Is this artifact still the same detector?"""

from yoloproof.proof.accuracy import accuracy_parity
from yoloproof.proof.reference import Reference
from yoloproof.proof.verdict import Check, Verdict
from yoloproof.proof.verify import verify

__all__ = ["Check", "Reference", "Verdict", "accuracy_parity", "verify"]
