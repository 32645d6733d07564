"""From facts to findings: what works here, what cannot, why, and the line that mends it. No machine is touched."""

from __future__ import annotations

from collections.abc import Callable

from yoloproof.doctor.facts import Facts
from yoloproof.doctor.finding import BROKEN, WAYS, Finding, Status
from yoloproof.doctor.machine_checks import check_cpus, check_disk, check_driver, check_gpu, check_python
from yoloproof.doctor.native_checks import check_native
from yoloproof.doctor.package_checks import (
    check_attention,
    check_dependencies,
    check_flash_attn,
    check_minimums,
    check_onnx,
    check_onnxruntime,
    check_openvino,
    check_tensorrt,
    check_tensorrt_rtx,
    check_torch,
)

_CHECKS: tuple[Callable[[Facts], list[Finding]], ...] = (
    check_gpu,
    check_driver,
    check_attention,
    check_flash_attn,
    check_torch,
    check_tensorrt,
    check_tensorrt_rtx,
    check_onnxruntime,
    check_native,
    check_openvino,
    check_onnx,
    check_minimums,
    check_dependencies,
    check_python,
    check_cpus,
    check_disk,
)


def diagnose(facts: Facts) -> list[Finding]:
    """The ways to run the main job first (codes "way-…"), then every check's findings. Same facts, same findings."""
    findings = [finding for check in _CHECKS for finding in check(facts)]
    ways = WAYS if facts.gpu is not None else {"cpu": WAYS["cpu"]}
    return [_way(name, title, findings) for name, title in ways.items()] + findings


def _way(name: str, title: str, findings: list[Finding]) -> Finding:
    """A way is as good as the worst finding that bears on it: what no package can mend comes before what one can."""
    bearing = [finding for finding in findings if name in finding.ways]
    for status in (*BROKEN, "risky", "unknown"):
        for finding in bearing:
            if finding.status == status:
                shown: Status = status if status in BROKEN else "risky"
                why = f"{finding.subject}: {finding.why}"
                return Finding(f"way-{name}", title, shown, why, finding.fix, finding.source, (name,))
    return Finding(f"way-{name}", title, "ready", "nothing is in the way", ways=(name,))


def main_job_runs(facts: Facts, findings: list[Finding]) -> bool:
    """Can the main job run where it is meant to? On the GPU where one is, else on the CPU.

    Of a GPU that is only named, nobody has seen the software: there the question is whether any way can be had, so a
    missing package does not count against it.
    """
    ways = {finding.code: finding.status for finding in findings if finding.code.startswith("way-")}
    if facts.gpu is None:
        return ways["way-cpu"] == "ready"
    gpu_ways = [status for code, status in ways.items() if code != "way-cpu"]
    enough = ("ready", "risky") if facts.gpu.here else ("ready", "risky", "missing")
    return any(status in enough for status in gpu_ways)
