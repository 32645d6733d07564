"""The native session on a CUDA driver that computes with NumPy: arguments, graph, tactics, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from cuda_stand_in import BASE, OWN, CudaStandIn, put_in_place
from native_engines import engine, images, network
from native_plan.execution import PLAN_TOLERANCE
from yoloproof import devices
from yoloproof.errors import YoloproofError
from yoloproof.files.native import NativeEngine, write_native
from yoloproof.files.plan import all_operations, chosen_launches
from yoloproof.names import Runtime
from yoloproof.proof.parity import output_parity
from yoloproof.runtime.base import NativeOptions, SessionOptions, SessionSpec
from yoloproof.runtime.device_arrays import DeviceArray, borrowed
from yoloproof.runtime.native import NativeSession, check_driver_loads, reduced


@pytest.fixture
def gpu(monkeypatch):
    """Puts a stand-in driver in the place of cuda-bindings'; its capability and shared memory may be given."""

    def placed(built: NativeEngine | None = None, **options) -> CudaStandIn:
        driver = CudaStandIn((built or engine()).plan, **options)
        put_in_place(driver, partial(monkeypatch.setitem, sys.modules))
        return driver

    return placed


@pytest.fixture
def path(tmp_path):
    write_native(engine(), tmp_path / "tiny.native")
    return tmp_path / "tiny.native"


def opened(path, **options) -> NativeSession:
    return NativeSession(
        SessionSpec(Runtime.NATIVE, path, "cuda", options=SessionOptions(native=NativeOptions(**options)))
    )


def expected() -> np.ndarray:
    return network("yolov13n")(torch.from_numpy(images())).numpy()


@pytest.mark.parametrize("options", [{}, {"overlap": False}])
def test_a_session_computes_the_network(gpu, path, options):
    driver = gpu()
    with opened(path, measured=False, **options) as session:
        (outputs,) = session.infer(images())
        assert output_parity(expected(), outputs, PLAN_TOLERANCE, "session").passed
        assert session.execute() == pytest.approx(1e-3)  # the stand-in's clock
        (again,) = session.fetch()
        assert np.array_equal(outputs, again)
        assert driver.launched == 2 * len(chosen_launches(engine().plan.operations, session.choice))
        assert session.facts.precision == "float16"
        assert session.facts.provider == "Stand-in GPU"
    assert driver.freed == 2


def test_machine_code_that_waits_by_itself_gets_early_edges(gpu, tmp_path):
    built = engine("yolov13n", (9, 0))
    write_native(built, tmp_path / "hopper.native")
    driver = gpu(built, capability=(9, 0))
    with opened(tmp_path / "hopper.native", measured=False) as session:
        (outputs,) = session.infer(images())
    assert output_parity(expected(), outputs, PLAN_TOLERANCE, "session").passed
    assert driver.early > 100


def test_tactics_are_measured_once_and_kept_beside_the_file(gpu, path, monkeypatch):
    gpu()
    taken: list[int] = []

    def seconds(self, launches, repeats):
        taken.append(len(launches))
        return 1.0 / len(taken)  # the last is the quickest

    monkeypatch.setattr(NativeSession, "_seconds", seconds)
    with opened(path) as session:
        (outputs,) = session.infer(images())
        choice = dict(session.choice)
    assert output_parity(expected(), outputs, PLAN_TOLERANCE, "session").passed
    several = [one for one in all_operations(engine().plan.operations) if len(one.tactics) > 1]
    assert all(choice[one.name] == len(one.tactics) - 1 for one in several)
    (kept,) = path.parent.glob("*.tactics.json")
    assert json.loads(kept.read_text())["choice"] == choice
    count = len(taken)
    with opened(path) as session:
        assert session.choice == choice
        tuning = session.facts.tuning
    assert len(taken) == count
    with opened(path, tuning=tuning, measured=False) as session:
        assert session.choice == choice
    with opened(path, tactics=kept) as session:
        assert session.choice == choice


def test_tactics_go_by_the_drivers_release_where_nvml_tells_it(gpu, path, monkeypatch):
    gpu()
    monkeypatch.setattr(NativeSession, "_seconds", lambda self, launches, repeats: 1e-6)

    def keys(release: str | None) -> set[str]:
        monkeypatch.setattr("yoloproof.runtime.native.driver_release", lambda: release)
        opened(path).close()
        return {json.loads(kept.read_text())["key"].split("; ")[2] for kept in path.parent.glob("*.tactics.json")}

    assert keys(None) == {"driver 13000"}
    assert keys("580.82.07") == {"driver 13000", "driver 580.82.07"}
    assert keys("580.159.04") == {"driver 13000", "driver 580.82.07", "driver 580.159.04"}
    assert len(keys("580.82.07")) == 3


@pytest.mark.parametrize(("started", "told", "release"), [(0, 0, "580.82.07"), (9, 0, None), (0, 3, None)])
def test_the_drivers_release_is_what_nvml_says(monkeypatch, started, told, release):
    class Nvml:
        def nvmlInit_v2(self) -> int:
            return started

        def nvmlSystemGetDriverVersion(self, text, size) -> int:
            text.value = b"580.82.07"
            return told

    monkeypatch.setattr(devices, "_library", lambda name: Nvml() if name == devices.NVML else None)
    assert devices.driver_release() == release


def test_tactics_of_another_gpu_are_refused(gpu, path):
    gpu()
    other = path.parent / "other.json"
    other.write_text(json.dumps({"schema": 1, "key": "another GPU", "choice": {}}))
    with pytest.raises(YoloproofError, match=r"holds no tactics of Stand-in GPU.*but those of another GPU"):
        opened(path, tactics=other)


def test_a_tactic_without_room_on_the_gpu_is_not_taken(gpu, tmp_path):
    """Kernels of the largest tile take more shared memory than the GPU has."""
    built = engine()
    kernels = [
        replace(one, facts=replace(one.facts, shared_bytes=99 << 10)) if ("BM", 128) in kernel.constants else one
        for one, kernel in zip(built.code[7, 5], built.plan.kernels, strict=True)
    ]
    write_native(replace(built, code={(7, 5): tuple(kernels)}), tmp_path / "large.native")
    gpu(shared=64 << 10)
    with opened(tmp_path / "large.native", measured=False) as session:
        launches = chosen_launches(built.plan.operations, session.choice)
        assert all(("BM", 128) not in built.plan.kernels[launch.kernel].constants for launch in launches)
        (outputs,) = session.infer(images())
    assert output_parity(expected(), outputs, PLAN_TOLERANCE, "session").passed


@pytest.mark.parametrize(("capability", "ptx"), [((7, 5), False), ((8, 6), True), ((12, 0), True)])
def test_the_gpus_own_machine_code_runs_else_ptx(gpu, path, capability, ptx):
    gpu(capability=capability)
    with opened(path, measured=False) as session:
        assert session.facts.target == ("7.5 (PTX)" if ptx else "7.5")


def test_machine_code_of_8_0_runs_on_8_6(gpu, tmp_path):
    built = engine("yolov13n", (8, 0))
    write_native(built, tmp_path / "ampere.native")
    gpu(built, capability=(8, 6))
    with opened(tmp_path / "ampere.native", measured=False) as session:
        assert session.facts.target == "8.0"


def test_a_gpu_older_than_the_code_is_refused(gpu, tmp_path):
    built = engine("yolov13n", (8, 0))
    write_native(built, tmp_path / "ampere.native")
    gpu(built, capability=(7, 5))
    with pytest.raises(YoloproofError, match=r"has code for 8.0, not for 7.5.*--target sm75") as caught:
        opened(tmp_path / "ampere.native")
    assert "\n" not in str(caught.value)


def test_a_driver_that_is_older_than_the_ptx_is_told(path):
    built = engine()
    ptx = b"//\n.version 8.4\n.target sm_75\n"
    newer = replace(built, code={(7, 5): tuple(replace(one, ptx=ptx) for one in built.code[7, 5])})
    check_driver_loads(newer, (7, 5), 12040, path)
    with pytest.raises(YoloproofError, match=r"PTX 8.4 needs driver 550 \(CUDA 12.4\), this one is of CUDA 12.2"):
        check_driver_loads(newer, (7, 5), 12020, path)


def test_images_of_another_size_are_refused(gpu, path):
    gpu()
    with opened(path, measured=False) as session, pytest.raises(YoloproofError, match="takes images"):
        session.load(np.zeros((1, 3, 32, 32), np.float32))


def test_without_bindings_the_remedy_is_said(monkeypatch, path):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(YoloproofError, match=r"pip install 'yoloproof\[native\]'"):
        opened(path)


def test_dependencies_that_others_imply_are_left_out():
    assert reduced([(), (0,), (0, 1), (1, 2)]) == [(), (0,), (1,), (2,)]


def test_importing_the_runtime_imports_no_framework():
    code = "import sys, yoloproof.runtime.native; print([n for n in ('torch', 'triton', 'onnx', 'cv2') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def on_gpu(driver: CudaStandIn, values: np.ndarray, **fields) -> DeviceArray:
    """Values in new memory of the stand-in, as they lie in the host's."""
    _, address = driver.cuMemAlloc(values.nbytes)
    order = np.argsort([-step for step in values.strides], kind="stable")
    driver.memory[address - BASE :][: values.nbytes] = np.frombuffer(values.transpose(order).tobytes(), np.uint8)
    strides = tuple(step // values.itemsize for step in values.strides)
    return DeviceArray(address, values.shape, values.dtype.name, strides, **fields)


def channels_last() -> np.ndarray:
    return images().transpose(0, 2, 3, 1).astype(np.float16, order="C").transpose(0, 3, 1, 2)


@pytest.mark.parametrize("protocol", ["DeviceArray", "__dlpack__", "__cuda_array_interface__"])
def test_images_come_from_the_gpu_and_outputs_stay_there(gpu, path, protocol):
    driver = gpu()
    with opened(path, measured=False) as session:
        (wanted,) = session.infer(images())
        array = on_gpu(driver, channels_last(), stream=5)
        asked = []
        if protocol == "__dlpack__":
            capsule = lambda self, stream, ours=array: (asked.append(stream), ours.__dlpack__())[1]  # noqa: E731
            array = type("Other", (), {"__dlpack__": capsule, "__dlpack_device__": lambda self: (2, 0)})()
        elif protocol != "DeviceArray":
            array = type("Other", (), {protocol: array.__cuda_array_interface__})()
        session.load(torch.zeros(images().shape))  # of the host's, by DLPack
        session.load(array)
        session.execute()
        assert np.array_equal(session.fetch()[0], wanted)
        assert driver.waits == (protocol != "__dlpack__"), "by DLPack the producer sees to it"
        assert asked == ([OWN] if protocol == "__dlpack__" else [])
        outputs = session.device_outputs()
        there = driver.memory[outputs.address - BASE :][: outputs.bytes].view(np.float32).reshape(outputs.shape)
        assert np.array_equal(there, wanted)


def test_a_callers_stream_takes_all_three_steps(gpu, path):
    driver = gpu()
    with opened(path, measured=False) as session:
        (wanted,) = session.infer(images())
        given = on_gpu(driver, channels_last())
        taken = on_gpu(driver, np.zeros(session.outputs[0].shape, np.float32))
        driver.streams.clear()
        session.enqueue(given.address, taken, 123)
        session.enqueue(given, taken.address, 123)
        assert driver.streams == [123] * 6
        there = driver.memory[taken.address - BASE :][: taken.bytes].view(np.float32).reshape(taken.shape)
        assert np.array_equal(there, wanted)


@pytest.mark.parametrize(
    ("values", "fields", "told"),
    [
        (images().astype(np.float16), {}, "float16 .* in channels-last memory, not float16 .* with strides"),
        (images(), {}, "not float32"),
        (channels_last()[:, :, :32], {}, r"not float16 \[1, 3, 32, 96\]"),
        (channels_last(), {"device": 1}, "another device than the engine's cuda:0"),
        (channels_last(), {"kind": 10}, "another device"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(gpu, path, values, fields, told):
    driver = gpu()
    with opened(path, measured=False) as session, pytest.raises(YoloproofError, match=told):
        session.load(on_gpu(driver, values, **fields))


def test_what_is_no_array_is_refused(gpu, path):
    gpu()
    with opened(path, measured=False) as session, pytest.raises(YoloproofError, match="neither __dlpack__ nor"):
        session.load([0.5])


def test_dlpack_is_what_numpy_and_pytorch_speak():
    """Their readers take ours, ours takes theirs, and all of it is given back."""
    import gc
    import weakref

    class Owner:
        pass

    values, owner = np.arange(24, dtype=np.float32).reshape(2, 3, 4), Owner()
    gone = weakref.ref(owner)
    ours = DeviceArray(values.ctypes.data, values.shape, "float32", (12, 4, 1), kind=1, owner=owner)
    taken, torchs = np.from_dlpack(ours), torch.from_dlpack(ours)
    ours.__dlpack__()  # nobody takes this one
    assert np.array_equal(taken, values)
    assert np.array_equal(torchs.numpy(), values)
    del ours, owner
    gc.collect()
    assert gone() is not None, "in use"
    del taken, torchs
    gc.collect()
    assert gone() is None
    theirs = torch.zeros(1, 3, 4, 5, dtype=torch.float16).to(memory_format=torch.channels_last)[:, :, 1:]
    with borrowed(theirs, 0) as found:
        assert (found.address, found.shape, found.dtype) == (theirs.data_ptr(), (1, 3, 3, 5), "float16")
        assert found.strides == theirs.stride()
        assert found.kind == 1
