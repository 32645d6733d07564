"""Every trap the users fell into, on stand-in machines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stand_in_machines import GIB, HEALTHY, cpu_machine, gpu_machine

from yoloproof.doctor import GPUS, Facts, Finding, NativeFile, diagnose, facts_with_gpu, main_job_runs
from yoloproof.doctor.finding import BROKEN, WAYS
from yoloproof.doctor.requirements import NATIVE, PINS
from yoloproof.errors import YoloproofError


def by_code(facts: Facts) -> dict[str, Finding]:
    return {finding.code: finding for finding in diagnose(facts)}


def runs(facts: Facts) -> bool:
    return main_job_runs(facts, diagnose(facts))


def test_cpu_machine_is_ready() -> None:
    found = by_code(cpu_machine())
    assert found["way-cpu"].status == "ready"
    assert [code for code in found if code.startswith("way-")] == ["way-cpu"]
    assert runs(cpu_machine())


@pytest.mark.parametrize("package", ["torch", "onnx", "onnxscript", "onnxruntime", "pooch", "opencv-python-headless"])
def test_main_job_cannot_run_without(package: str) -> None:
    facts = cpu_machine(packages={name: version for name, version in HEALTHY.items() if name != package})
    assert by_code(facts)["way-cpu"].status == "missing"
    assert not runs(facts)


def test_t4_with_tensorrt_is_ready() -> None:
    facts = gpu_machine("t4", {"tensorrt-cu13": "10.16.1.11", "tensorrt-rtx-cu13": "1.7.1.116"})
    found = by_code(facts)
    assert {found[f"way-{way}"].status for way in ("cpu", "torch", "tensorrt", "tensorrt-rtx")} == {"ready"}
    assert runs(facts)


def test_flash_attn_2_cannot_work_on_turing_and_is_not_needed() -> None:
    for packages, subject in (({}, "flash-attn 2.x"), ({"flash-attn": "2.8.3.post2"}, "flash-attn 2.8.3.post2")):
        finding = by_code(gpu_machine("t4", packages))["flash-attn-2-unusable"]
        assert (finding.subject, finding.status) == (subject, "cannot work")
        assert "8.0" in finding.why
        assert "not needed" in finding.why


def test_flash_attn_1_runs_on_turing_but_must_not_export() -> None:
    finding = by_code(gpu_machine("t4", {"flash-attn": "1.0.9"}))["flash-attn-1"]
    assert finding.status == "risky"
    for words in ("never export", "constant", "detects nothing", "yoloproof verify"):
        assert words in finding.why
    assert finding.fix == "pip uninstall -y flash-attn"


def test_flash_attn_2_is_a_risk_where_it_runs() -> None:
    assert by_code(gpu_machine("a100", {"flash-attn": "2.8.3.post2"}))["flash-attn-2"].status == "risky"
    assert by_code(gpu_machine("a100"))["flash-attn-absent"].status == "not needed"


def test_tensorrt_11_names_the_missing_flag() -> None:
    finding = by_code(gpu_machine("t4", {"tensorrt-cu13": "11.4.0.106"}))["tensorrt-11"]
    assert "no FP16 builder flag" in finding.why
    assert "float32 engine" in finding.why


@pytest.mark.parametrize(
    ("version", "wrong"), [("11.0.0", False), ("11.1.0.106", True), ("11.2.1", True), ("11.3.0", False)]
)
def test_tensorrt_with_known_wrong_results_is_a_risk(version: str, wrong: bool) -> None:
    found = by_code(gpu_machine("t4", {"tensorrt-cu13": version}))
    assert ("tensorrt-wrong" in found) is wrong
    if wrong:
        assert found["tensorrt-wrong"].status == "risky"
        assert found["tensorrt-wrong"].source == "trt-wrong"
        assert "yoloproof verify" in found["tensorrt-wrong"].why
        assert found["tensorrt-wrong"].fix.startswith("pip install tensorrt-cu13==11.4")


@pytest.mark.parametrize("name", ["h100", "v100", "orin"])
def test_tensorrt_rtx_refuses(name: str) -> None:
    found = by_code(gpu_machine(name, {"tensorrt-rtx-cu13": "1.7.1.116"}))
    assert found["tensorrt-rtx-gpu"].status == "cannot work"
    assert found["way-tensorrt-rtx"].status == "cannot work"


def test_what_cannot_work_outweighs_what_is_missing() -> None:
    """Installing PyTorch for CUDA would not make TensorRT-RTX run on Hopper."""
    way = by_code(gpu_machine("h100", {"tensorrt-rtx-cu13": "1.7.1.116"}, torch_cuda=""))["way-tensorrt-rtx"]
    assert (way.status, way.fix) == ("cannot work", "use TensorRT")


def test_tensorrt_rtx_on_turing_is_for_float16() -> None:
    facts = gpu_machine("t4", {"tensorrt-rtx-cu13": "1.7.1.116"})
    assert "float32 matrix product" in by_code(facts)["tensorrt-rtx-turing"].why
    assert "tensorrt-rtx-turing" not in by_code(gpu_machine("rtx4090", {"tensorrt-rtx-cu13": "1.7.1.116"}))


@pytest.mark.parametrize(
    ("driver", "packages", "torch_cuda", "way"),
    [
        ("550.54.15", {}, "13.0", "torch"),
        ("550.54.15", {"tensorrt-cu13": "10.16.1.11"}, "12.6", "tensorrt"),
        ("530.30.02", {"tensorrt-cu12": "10.16.1.11"}, "12.6", "tensorrt"),
        ("570.10", {"tensorrt": "11.4.0.106"}, "12.6", "tensorrt"),
        ("530.30.02", {"tensorrt": "10.9.0.34"}, "12.6", "tensorrt"),
        ("550.54.15", {"tensorrt-rtx-cu13": "1.7.1.116"}, "12.6", "tensorrt-rtx"),
        ("470.82.01", {}, "12.6", "torch"),
    ],
)
def test_driver_older_than_the_wheels_cuda(driver: str, packages: dict[str, str], torch_cuda: str, way: str) -> None:
    found = by_code(gpu_machine("t4", packages, driver=driver, torch_cuda=torch_cuda))
    assert found["driver-old"].status == "too old"
    assert driver in found["driver-old"].why
    assert found[f"way-{way}"].status == "too old"


def test_driver_that_fits() -> None:
    for packages in ({"tensorrt-cu12": "10.16.1.11"}, {"tensorrt-rtx-cu12": "1.7.1.116"}, {"tensorrt": "10.9.0.34"}):
        found = by_code(gpu_machine("t4", packages, driver="535.1", torch_cuda="12.6"))
        assert found["driver"].why == "runs CUDA 12.x and older"


def test_cpu_only_torch_beside_a_gpu() -> None:
    facts = gpu_machine("t4", {"torch": "2.13.0+cpu"}, torch_cuda="")
    found = by_code(facts)
    assert found["torch-cpu-only"].status == "missing"
    assert found["torch-cpu-only"].fix.startswith("pip uninstall -y torch onnxruntime &&"), "both are replaced"
    assert not runs(facts)


def test_torch_without_code_for_the_gpu() -> None:
    assert by_code(gpu_machine("v100"))["torch-gpu"].status == "cannot work"
    assert by_code(gpu_machine("rtx5090", torch_cuda="12.6"))["torch-gpu"].status == "cannot work"
    assert by_code(gpu_machine("rtx5090"))["torch"].status == "works"


def test_torch_for_cuda_12_8() -> None:
    """PyTorch 2.11 is the last with such a build: with Blackwell, without Volta."""
    assert by_code(gpu_machine("rtx5090", torch_cuda="12.8"))["torch"].status == "works"
    assert by_code(gpu_machine("t4", torch_cuda="12.8"))["torch"].status == "works"
    assert by_code(gpu_machine("v100", torch_cuda="12.8"))["torch-gpu"].status == "cannot work"
    assert by_code(gpu_machine("t4", torch_cuda="12.9"))["torch-unknown"].status == "unknown"


def test_jetson_is_sent_to_its_jetpack() -> None:
    found = by_code(gpu_machine("orin", torch_cuda=""))
    for code in ("torch-jetson", "onnxruntime-gpu-missing"):
        assert found[code].status == "missing"
        assert "JetPack" in found[code].fix
        assert "pip" not in found[code].fix
    assert by_code(gpu_machine("orin", torch_cuda="12.6"))["torch-jetson"].status == "unknown"


@pytest.mark.parametrize(
    ("name", "version", "way"),
    [("onnx", "1.16.0", "cpu"), ("onnxscript", "0.2", "cpu"), ("onnxruntime", "1.20.1", "cpu")],
)
def test_package_older_than_the_export_needs(name: str, version: str, way: str) -> None:
    facts = cpu_machine(packages={**HEALTHY, name: version})
    found = by_code(facts)
    assert found["package-old"].subject == f"{name} {version}"
    assert found[f"way-{way}"].status == "too old"
    assert not runs(facts)


def test_any_opencv_will_do() -> None:
    packages = {name: version for name, version in HEALTHY.items() if name != "opencv-python-headless"}
    assert runs(cpu_machine(packages={**packages, "opencv-python": "5.0.0.93"}))


def test_old_openvino_stops_only_openvino() -> None:
    facts = cpu_machine(packages={**HEALTHY, "openvino": "2025.0"})
    assert by_code(facts)["package-old"].status == "too old"
    assert runs(facts)


def test_wheels_to_add_are_of_pytorchs_cuda() -> None:
    """A driver that runs CUDA 13 runs CUDA 12 too; what counts is the PyTorch beside them."""
    found = by_code(gpu_machine("t4", torch_cuda="12.6"))
    assert found["tensorrt-missing"].fix == "pip install tensorrt-cu12==10.16.1.11"
    assert found["tensorrt-rtx-missing"].fix == "pip install tensorrt-rtx-cu12==1.7.1.116"
    assert found["onnxruntime-gpu-missing"].fix.endswith("onnxruntime-gpu==1.26.0")


@pytest.mark.parametrize(
    ("problem", "remedy"),
    [
        ("nvidia-ml-py is not installed, so no GPU could be asked", "pip install nvidia-ml-py"),
        ("none visible (NVML: NVML Shared Library Not Found)", "--gpus all"),
        ("the driver shows no GPU", "--gpus all"),
        ("none visible (NVML: Driver/library version mismatch)", "reboot"),
    ],
)
def test_gpu_that_is_not_seen(problem: str, remedy: str) -> None:
    assert remedy in by_code(cpu_machine(gpu_problem=problem))["gpu-none"].fix


def test_old_torch() -> None:
    assert by_code(cpu_machine(packages={**HEALTHY, "torch": "2.4.1"}))["way-cpu"].status == "too old"


def test_two_onnx_runtimes() -> None:
    found = by_code(gpu_machine("t4", {"onnxruntime-gpu": "1.31.1"}, onnxruntime_cuda=13))
    assert found["onnxruntime-two"].fix.endswith("pip install onnxruntime-gpu==1.31.1")
    assert by_code(cpu_machine(packages={**HEALTHY, "onnxruntime-gpu": "1.31.1"}))["onnxruntime-two"].fix.endswith(
        "pip install onnxruntime==1.32.0"
    )


def test_onnxruntime_gpu_of_another_cuda_than_torch() -> None:
    packages = {name: version for name, version in HEALTHY.items() if name != "onnxruntime"}
    facts = gpu_machine("t4", packages={**packages, "onnxruntime-gpu": "1.26.0"}, onnxruntime_cuda=12)
    facts = Facts(**{**facts.__dict__, "packages": {**packages, "onnxruntime-gpu": "1.26.0"}})
    found = by_code(facts)
    assert found["onnxruntime-cuda"].status == "cannot work"
    assert found["onnxruntime-cuda"].fix == "pip install onnxruntime-gpu==1.31.1"


def test_onnxruntime_gpu_without_its_provider() -> None:
    packages = {
        **{name: version for name, version in HEALTHY.items() if name != "onnxruntime"},
        "onnxruntime-gpu": "1.31.1",
    }
    facts = gpu_machine("t4", onnxruntime_cuda=13, providers=("CPUExecutionProvider",))
    facts = Facts(**{**facts.__dict__, "packages": packages})
    assert by_code(facts)["onnxruntime-no-cuda"].status == "cannot work"


def test_two_tensorrts() -> None:
    finding = by_code(gpu_machine("t4", {"tensorrt-cu12": "10.16.1.11", "tensorrt-cu13": "11.4.0.106"}))["tensorrt-two"]
    assert finding.fix.startswith("pip uninstall -y tensorrt-cu12 tensorrt-cu13")
    both = by_code(gpu_machine("t4", {"tensorrt-rtx-cu12": "1.7.1.116", "tensorrt-rtx-cu13": "1.7.1.116"}))
    assert "tensorrt-rtx-two" in both
    one = by_code(gpu_machine("t4", {"tensorrt": "11.4.0.106", "tensorrt-cu13": "11.4.0.106"}))
    assert "tensorrt-two" not in one, "the plain package pulls in its CUDA package: that is one TensorRT"


def test_tensorrt_too_new_for_volta_and_too_old_for_attention() -> None:
    volta = by_code(gpu_machine("v100", {"tensorrt-cu12": "10.16.1.11"}))["tensorrt-volta"]
    assert (volta.status, volta.fix) == ("cannot work", "pip install tensorrt-cu12==10.4.0")
    assert "--attention explicit" in by_code(gpu_machine("t4", {"tensorrt-cu12": "10.4.0"}))["tensorrt-old"].why


def test_hosted_t4_with_two_cpus() -> None:
    finding = by_code(gpu_machine("t4", cpu_count=2, host="colab"))["cpu-few"]
    assert finding.status == "risky"
    assert "colab" in finding.why
    assert by_code(cpu_machine(cpu_count=2))["cpu"].status == "works"


def test_no_room_for_an_engine() -> None:
    facts = gpu_machine("t4", {"tensorrt-cu13": "10.16.1.11"}, disk_free_bytes=GIB // 2)
    found = by_code(facts)
    assert found["disk-low"].status == "cannot work"
    assert not runs(facts)


def test_python() -> None:
    assert by_code(cpu_machine(python="3.10.12"))["python-3.10"].status == "risky"
    assert by_code(cpu_machine(python="3.9.1"))["way-cpu"].status == "too old"


def test_unknown_capability_is_unknown_not_a_guess() -> None:

    facts = gpu_machine("t4")
    assert facts.gpu is not None
    found = by_code(replace(facts, gpu=replace(facts.gpu, name="GPU of the future", capability=(15, 0))))
    assert found["gpu-unknown"].status == "unknown"
    assert found["torch"].status == "unknown"
    assert found["way-torch"].status == "risky"


def test_unreadable_version_and_driver_do_not_crash() -> None:
    found = by_code(gpu_machine("t4", {"tensorrt-cu12": "built-from-source"}, driver="unknown"))
    assert found["driver-old"].status == "too old"


@pytest.mark.parametrize("name", [*GPUS, "none"])
def test_every_named_gpu_has_an_answer_whose_ways_agree_with_its_findings(name: str) -> None:
    findings = diagnose(facts_with_gpu(cpu_machine(), name))
    ways = {finding.ways[0]: finding for finding in findings if finding.code.startswith("way-")}
    assert set(ways) == ({"cpu"} if name == "none" else set(WAYS))
    for finding in findings:
        assert finding.why
        for way in finding.ways:
            if way in ways and finding.status in BROKEN:
                assert ways[way].status in BROKEN


def test_unknown_gpu_name() -> None:
    with pytest.raises(YoloproofError, match="t4, rtx2080"):
        facts_with_gpu(cpu_machine(), "t5")


def test_naming_the_gpu_that_is_here_keeps_what_was_measured() -> None:
    facts = gpu_machine("t4")
    assert facts_with_gpu(facts, "t4") is facts
    assert facts_with_gpu(facts, "none").gpu is None


@pytest.mark.parametrize(("here", "named"), [("a100", "a10"), ("rtx4090", "l4")])
def test_a_name_that_another_one_begins_with(here: str, named: str) -> None:

    facts = gpu_machine(here)
    assert facts.gpu is not None
    if here == "rtx4090":
        facts = replace(facts, gpu=replace(facts.gpu, name="NVIDIA L40S"))
    assert facts_with_gpu(facts, named).gpu == GPUS[named]


def native(capability: tuple[int, int] = (7, 5), ptx: tuple[int, int] | None = (8, 4)) -> NativeFile:
    return NativeFile("n.native", (capability,), ptx)


@pytest.mark.parametrize(
    ("gpu", "changes", "status", "words"),
    [
        ("t4", {"native": native()}, "works", "machine code for Tesla T4"),
        ("a10", {"native": native((8, 0))}, "works", "machine code for NVIDIA A10"),
        ("h100", {"native": native()}, "works", "PTX 8.4, which needs driver 550 (CUDA 12.4) or newer"),
        ("h100", {"native": native(), "driver": "535.183.01"}, "too old", "this is 535.183.01"),
        ("h100", {"native": native(), "driver": None}, "unknown", "needs driver 550"),
        ("h100", {"native": native(ptx=None)}, "cannot work", "has code for 7.5, none for NVIDIA H100"),
        ("h100", {"native": native(ptx=(99, 0))}, "unknown", "PTX 99.0"),
        ("t4", {"native": native((8, 0))}, "cannot work", "has code for 8.0, none for Tesla T4"),
    ],
)
def test_a_native_file_fits_or_not(gpu: str, changes: dict[str, object], status: str, words: str) -> None:
    found = by_code(gpu_machine(gpu, {"cuda-bindings": "12.9.10"}, **changes))
    assert (found["native-file"].status, words in found["native-file"].why) == (status, True), found["native-file"]
    if status not in ("works", "unknown"):
        assert found["way-native"].status == status
        assert "--target sm" in found["native-file"].fix


def test_a_native_file_is_looked_at_without_a_gpu() -> None:
    assert (
        by_code(cpu_machine(native=native()))["native-file"].why
        == "intact, with code for 7.5; it runs on a GPU machine"
    )


def test_a_native_engine_needs_the_driver_and_one_package() -> None:
    bare = {name: PINS[name] for name in NATIVE}
    packages = {**bare, "cuda-bindings": "12.9.10"}
    alone = gpu_machine("h100", torch_cuda=None)
    found = by_code(replace(alone, packages=packages))
    assert (found["way-native"].status, found["way-torch"].status) == ("ready", "missing")
    assert runs(replace(alone, packages=packages))
    missing = by_code(replace(alone, packages=bare))["native-missing"]
    assert (missing.status, missing.fix) == ("missing", "pip install 'yoloproof[native]'")
    assert "<13" in by_code(replace(alone, packages=bare, driver="550.54"))["native-missing"].fix
    old = by_code(replace(alone, packages={**bare, "cuda-bindings": "13.5.0"}, driver="550.54"))
    assert (old["way-native"].status, "cuda-bindings<13" in old["way-native"].fix) == ("too old", True)
    assert by_code(gpu_machine("t4", packages))["way-native"].status == "risky", "no T4 has run one"
    assert by_code(gpu_machine("v100", packages))["way-native"].status == "cannot work"
