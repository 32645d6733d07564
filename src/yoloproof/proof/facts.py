"""What a session says of itself, as the record: the one place of the proof that reads a session's facts."""

from __future__ import annotations

from yoloproof.names import Precision, Runtime
from yoloproof.records import SessionFacts
from yoloproof.runtime import Session


def session_facts(session: Session) -> SessionFacts:
    """name, precision, device, threads, provider and version of an opened artifact."""
    facts = session.facts
    if isinstance(facts, SessionFacts):
        return facts
    known = {key: facts.get(key) for key in ("version", "device", "provider", "threads", "precision")}
    return SessionFacts(name=Runtime(facts.get("name", "pytorch")), **known)


def session_precision(session: Session) -> Precision | None:
    """What the session computes in; None where it does not say."""
    return Precision.of_dtype(session_facts(session).precision)
