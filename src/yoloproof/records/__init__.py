"""The records of the road from a Case to its Entry, and of the result file that holds them.

Every producer constructs these frozen classes and every reader uses their attributes; a field's name is its key in the
file (`yoloproof.results.schema`). None means that nobody could tell.
"""

from yoloproof.records.base import Record
from yoloproof.records.case import Artifact, Case, ModelFacts, SessionFacts
from yoloproof.records.machine import Battery, Cpu, Gpu, GpuReading, Machine, MachineAfter, Reading
from yoloproof.records.measurement import CpuTime, Process, Protocol, RunWarning, SetAside, Summary, Timer, Turn
from yoloproof.records.result import Entry, Result, Run, Tool
from yoloproof.records.serving import Load, LoadPoint, ServerPlan, ServerSummary, Serving
from yoloproof.records.verdict import Accuracy, AccuracyProtocol, Check, PublishedFigure, StageTimes, Verdict

__all__ = [
    "Accuracy",
    "AccuracyProtocol",
    "Artifact",
    "Battery",
    "Case",
    "Check",
    "Cpu",
    "CpuTime",
    "Entry",
    "Gpu",
    "GpuReading",
    "Load",
    "LoadPoint",
    "Machine",
    "MachineAfter",
    "ModelFacts",
    "Process",
    "Protocol",
    "PublishedFigure",
    "Reading",
    "Record",
    "Result",
    "Run",
    "RunWarning",
    "ServerPlan",
    "ServerSummary",
    "Serving",
    "SessionFacts",
    "SetAside",
    "StageTimes",
    "Summary",
    "Timer",
    "Tool",
    "Turn",
    "Verdict",
]
