"""What this machine is, what fits it, what is missing: `Facts` in, `Finding`s out, and the knowledge they rest on."""

from yoloproof.doctor.diagnosis import diagnose, main_job_runs
from yoloproof.doctor.facts import GPUS, Facts, GpuFacts, NativeFile, facts_from_machine, facts_with_gpu, native_file
from yoloproof.doctor.finding import Finding
from yoloproof.doctor.knowledge import knowledge_markdown, row_for
from yoloproof.doctor.requirements import ENVIRONMENTS, Environment, environment_for, requirements_text

__all__ = [
    "ENVIRONMENTS",
    "GPUS",
    "Environment",
    "Facts",
    "Finding",
    "GpuFacts",
    "NativeFile",
    "diagnose",
    "environment_for",
    "facts_from_machine",
    "facts_with_gpu",
    "knowledge_markdown",
    "main_job_runs",
    "native_file",
    "requirements_text",
    "row_for",
]
