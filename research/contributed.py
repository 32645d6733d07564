"""May a result file that somebody sent go into results/? Every reason against it, one a line; exit status 1 where there is one.

    python research/contributed.py FILE…

Held are: schema; machine (GPU, driver, clocks); a named protocol, whole and not --quick; a proof of every row with all
checks that its format gets, `stripped` aside; samples that give the summary. What speaks for itself (warnings) is repeated, not judged.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from yoloproof.errors import YoloproofError
from yoloproof.measurement.protocol import PROTOCOLS
from yoloproof.measurement.statistics import summarize
from yoloproof.names import ArtifactFormat, Attention, Weights
from yoloproof.records import Entry, Machine, Result, Run
from yoloproof.results.compare import fastest_lines
from yoloproof.results.differences import protocol_differences
from yoloproof.results.file import read_result
from yoloproof.results.labels import row_label

GPU_FACTS = ("name", "uuid", "compute_capability", "driver", "power_limit_w", "max_sm_clock_hz")

# What `yoloproof.proof` asks of each format at least: against weights, and of a foreign file without them.
SHOWN = ("outputs, real images", "outputs, random input", "detections", "sensitivity")
RUN = ("examined", "outputs, transformed copies", *SHOWN)
GRAPH = ("weights", "constants", "attention", "operators", "precision", "classes", "blocks")
PLAN = ("launch plan", "machine code")
CHECKS = {
    ArtifactFormat.PYTORCH: RUN,
    ArtifactFormat.ONNX: (*GRAPH, *RUN),
    ArtifactFormat.ENGINE: ("engine", *RUN),
    ArtifactFormat.NATIVE: (*PLAN, "classes", *RUN),
}
WITHOUT_WEIGHTS = {
    ArtifactFormat.ONNX: ("attention", *SHOWN),
    ArtifactFormat.ENGINE: SHOWN,
    ArtifactFormat.NATIVE: (*PLAN, "outputs, the file's own images"),
}


def objections(result: Result) -> list[str]:
    """What speaks against publishing a result; none where it may."""
    found = [line for run in result.runs for line in _of_run(run)]
    if not result.entries:
        found.append("no rows")
    for entry in result.entries:
        found += [f"{row_label(entry)}: {line}" for line in _of_entry(entry, result.run_of(entry))]
    return found


def _of_run(run: Run) -> Iterator[str]:
    if run.machine is None:
        yield "machine: it was not reached"
    else:
        yield from _of_machine(run.machine)
    known = PROTOCOLS.get(run.protocol.name)
    if run.quick:
        yield "protocol: a --quick run is a first look, no result"
    elif known is None or protocol_differences(replace(run.protocol, batches=known.batches), known):
        yield f"protocol: {run.protocol.name} is not this version's protocol of that name; measure with an unchanged one"
    if run.interrupted or run.partial:
        yield "the run was cut short"


def _of_machine(machine: Machine) -> Iterator[str]:
    if machine.cpu.model is None:
        yield "machine: the CPU's model is not recorded"
    if not machine.libraries:
        yield "machine: the libraries' versions are not recorded"
    if machine.device != "cpu":
        gpu = machine.gpu
        missing = [name for name in GPU_FACTS if gpu is None or getattr(gpu, name) is None]
        if missing:
            yield f"machine: of the GPU there is no {', '.join(missing)}"
        if not any(reading.sm_clock_hz for reading in machine.during):
            yield "machine: the GPU's clock was not watched during the run (nvidia-ml-py)"
        if gpu is not None and gpu.other_processes:
            yield f"machine: {gpu.other_processes} other processes computed on the GPU"


def _of_entry(entry: Entry, run: Run) -> Iterator[str]:
    if entry.error is not None or entry.partial or entry.summary is None:
        yield f"not timed to its end ({entry.error or 'partial'})"
        return
    if entry.proof.passed is not True and entry.artifact.attention is not Attention.STRIPPED:
        failures = ", ".join(check.name for check in entry.proof.failures) or "no check was made"
        yield f"not proved: {failures}"
    elif entry.artifact.attention is not Attention.STRIPPED and (missing := _missing(entry)):
        yield f"its proof lacks {', '.join(missing)}"
    if entry.artifact.sha256 is None and entry.model.sha256 is None and entry.model.weights is not Weights.RANDOM:
        yield "neither artifact nor weights have a hash"
    timed = [process for process in entry.processes if not process.open_only]
    if len(timed) + len(entry.processes_set_aside) < run.protocol.processes:
        yield f"{len(timed)} of {run.protocol.processes} processes"
    for process in timed:
        if not process.complete or any(not (math.isfinite(one) and one > 0) for one in process.samples_s):
            yield f"process {process.process} is not whole"
        elif len(process.samples_s) < run.protocol.runs_of(entry.case.runtime):
            yield f"process {process.process} has {len(process.samples_s)} samples"
    try:
        found = summarize(entry.processes, run.protocol, entry.artifact.batch, entry.case.runtime)
    except ValueError:
        yield "the times of load, run and fetch are not of one length"
        return
    if found is None or not math.isclose(found.median_s, entry.summary.median_s, rel_tol=1e-5):
        yield "its samples do not give its median"


def _missing(entry: Entry) -> list[str]:
    """The checks that a proof of such an artifact has, and this one has not."""
    made = {check.name for check in entry.proof.checks}
    wanted = [CHECKS.get(entry.artifact.format, RUN)]
    if entry.model.weights is Weights.FOREIGN and entry.artifact.format in WITHOUT_WEIGHTS:
        wanted.append(WITHOUT_WEIGHTS[entry.artifact.format])
    return min(([name for name in one if name not in made] for one in wanted), key=len)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    failed = False
    for file in parser.parse_args().files:
        try:
            result = read_result(file)
        except YoloproofError as error:
            print(error)
            failed = True
            continue
        against = objections(result)
        failed |= bool(against)
        for line in against:
            print(f"{file}: {line}")
        if not against:
            warned = sorted({one.code for run in result.runs for one in run.warnings})
            print(f"{file}: fit for results/" + (f"; it warns of {', '.join(warned)}" if warned else ""))
            print(*(f"{file}: {line}" for line in fastest_lines(result)), sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
