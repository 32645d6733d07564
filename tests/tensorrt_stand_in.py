"""A stand-in for the `tensorrt` module, which no machine here can install: it answers as documented, and keeps what it
was asked. `library("10.16.1.11")` has the creation flag of 10.x, `library("11.4.0.106")` has none."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np

Calls = list[tuple[Any, ...]]


class Member:
    """One member of an enumeration: a name and a value."""

    def __init__(self, name: str, value: int) -> None:
        self.name, self.value = name, value

    def __int__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return self.name


def enumeration(*names: str) -> SimpleNamespace:
    return SimpleNamespace(**{name: Member(name, 1 << index) for index, name in enumerate(names)})


class Memory(bytes):
    """IHostMemory: bytes, and what a timing or runtime cache serialises to."""


class Tensor:
    def __init__(self, name: str, shape: tuple[int, ...], dtype: Member) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype


class Layer:
    def __init__(self, name: str, kind: Member, tensor: Tensor) -> None:
        self.name, self.type, self.num_outputs, self._tensor = name, kind, 1, tensor

    def get_input(self, index: int) -> Tensor:
        return self._tensor

    def get_output(self, index: int) -> Tensor:
        return self._tensor


class AttentionInput(Layer):
    """What a layer becomes by `layer.__class__ = IAttentionInputLayer`."""

    @property
    def attention(self) -> SimpleNamespace:
        self.__dict__.setdefault("_attention", SimpleNamespace(decomposable=False))
        return self.__dict__["_attention"]


class Library(SimpleNamespace):
    """The module; `calls` is the record, `images` the shape of its one input, `kernels` what an engine holds."""


def library(version: str, images: tuple[int, ...] = (1, 3, 32, 32), fused: bool = True) -> Library:
    calls: Calls = []
    trt = Library(__name__="tensorrt", __version__=version, calls=calls, images=images)
    trt.NetworkDefinitionCreationFlag = enumeration("EXPLICIT_BATCH", "STRONGLY_TYPED")
    if version.startswith("11"):
        trt.NetworkDefinitionCreationFlag = SimpleNamespace()
    trt.ProfilingVerbosity = enumeration("LAYER_NAMES_ONLY", "NONE", "DETAILED")
    trt.BuilderFlag = enumeration("VERSION_COMPATIBLE", "TF32")
    trt.HardwareCompatibilityLevel = enumeration("NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY")
    trt.LayerType = enumeration("CAST", "CONVOLUTION", "ATTENTION_INPUT", "ATTENTION_OUTPUT")
    trt.LayerInformationFormat = enumeration("ONELINE", "JSON")
    trt.TensorIOMode = enumeration("NONE", "INPUT", "OUTPUT")
    trt.DataType = enumeration("FLOAT", "HALF")
    trt.nptype = lambda dtype: {"FLOAT": np.float32, "HALF": np.float16}[dtype.name]
    trt.ILogger = trt.IProgressMonitor = type("Interface", (), {"__init__": lambda self: None})
    trt.Builder = lambda log: Builder(trt, log)
    trt.OnnxParser = lambda network, log: Parser(trt, network)
    trt.Runtime = lambda log: Runtime(trt, log)
    trt.IAttentionInputLayer = AttentionInput
    trt.fused = fused
    return trt


class Builder:
    def __init__(self, trt: Library, log: Any) -> None:
        self._trt, self._log = trt, log

    def create_network(self, flags: int) -> Network:
        self._trt.calls.append(("create_network", flags))
        return Network(self._trt)

    def create_builder_config(self) -> Config:
        return Config(self._trt)

    def create_optimization_profile(self) -> Profile:
        return Profile(self._trt)

    def build_serialized_network(self, network: Network, config: Config) -> Memory:
        self._trt.calls.append(("build_serialized_network", network.name))
        monitor = getattr(config, "progress_monitor", None)
        if monitor is not None:
            monitor.phase_start("Building engine", None, 2)
            monitor.phase_start("Timing", "Building engine", 4)
            for step in range(4):
                monitor.step_complete("Timing", step)
            monitor.phase_finish("Timing")
            monitor.step_complete("Building engine", 1)
            monitor.phase_finish("Building engine")
        self._log.log(Member("INFO", 1), "Total Activation Memory: 4096 bytes")
        self._log.log(Member("WARNING", 2), "a warning of the builder")
        return Memory(b"a TensorRT plan")


class Network:
    name = ""

    def __init__(self, trt: Library) -> None:
        half = trt.DataType.HALF
        self._images = Tensor("images", trt.images, half)
        self._output = Tensor("output0", (trt.images[0], 84, 16), half)
        heads = Tensor("q", (1, 2, 16, 32), half)
        names = ("ATTENTION_INPUT", "_AttentionInput"), ("ATTENTION_OUTPUT", "_AttentionOutput")
        path = "model.6.m.0.0.attn/Attention"
        self._layers = [Layer("model.0.conv/Conv", trt.LayerType.CONVOLUTION, self._images)]
        self._layers += [Layer(path + suffix, getattr(trt.LayerType, kind), heads) for kind, suffix in names]
        self.num_layers, self.num_inputs, self.num_outputs = len(self._layers), 1, 1

    def get_layer(self, index: int) -> Layer:
        return self._layers[index]

    def get_input(self, index: int) -> Tensor:
        return self._images

    def get_output(self, index: int) -> Tensor:
        return self._output


class Parser:
    num_errors = 0

    def __init__(self, trt: Library, network: Network) -> None:
        self._trt = trt

    def parse_from_file(self, path: str) -> bool:
        return True


class Profile:
    def __init__(self, trt: Library) -> None:
        self._trt = trt

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self._trt.calls.append(("set_shape", name, *shapes))


class Config:
    """Records what is set; attributes too."""

    def __init__(self, trt: Library) -> None:
        object.__setattr__(self, "_trt", trt)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        self._trt.calls.append(("set", name, repr(value) if isinstance(value, Member) else type(value).__name__))

    def set_flag(self, flag: Member) -> None:
        self._trt.calls.append(("set_flag", flag.name))

    def clear_flag(self, flag: Member) -> None:
        self._trt.calls.append(("clear_flag", flag.name))

    def add_optimization_profile(self, profile: Profile) -> int:
        self._trt.calls.append(("add_optimization_profile",))
        return 0

    def create_timing_cache(self, held: bytes) -> SimpleNamespace:
        self._trt.calls.append(("create_timing_cache", held))
        return SimpleNamespace(serialize=lambda: Memory(held + b"+timed"))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self._trt.calls.append(("set_timing_cache", ignore_mismatch))
        object.__setattr__(self, "_cache", cache)
        return not cache.serialize().startswith(b"other GPU")

    def get_timing_cache(self) -> Any:
        return self._cache


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, trt: Library, log: Any) -> None:
        self._trt, self._log = trt, log
        if hasattr(trt, "EngineValidity"):
            self.get_engine_validity = lambda plan: (trt.validity, trt.diagnostics)

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        self._trt.calls.append(("deserialize_cuda_engine", plan, self.engine_host_code_allowed))
        if getattr(self._trt, "unloadable", False):
            self._log.log(Member("ERROR", 4), "magic tag does not match")
            return None
        return Engine(self._trt)


class Engine:
    """One input `images`, one output `output0` with twice the sum of each image in every place."""

    num_io_tensors = 2

    def __init__(self, trt: Library) -> None:
        self._trt = trt
        self.name = getattr(trt, "engine_name", "yoloproof onnx " + "a" * 64)

    def get_tensor_name(self, index: int) -> str:
        return ("images", "output0")[index]

    def get_tensor_mode(self, name: str) -> Member:
        return self._trt.TensorIOMode.INPUT if name == "images" else self._trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Member:
        return self._trt.DataType.HALF

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._trt.images if name == "images" else (self._trt.images[0], 84, 16)

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[tuple[int, ...], ...]:
        return (1, 3, 32, 32), (2, 3, 32, 32), (4, 3, 32, 32)

    def create_execution_context(self, config: Any = None) -> Context:
        return Context(self._trt)

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig(self._trt)

    def create_engine_inspector(self) -> SimpleNamespace:
        kernel = "_gemm_mha_v2_myl0_4" if self._trt.fused else "__myl_Softmax_myl0_4"
        layer = {"Name": kernel, "LayerType": "kgen", "Outputs": [{"Format/Datatype": "Half"}]}
        layer["Metadata"] = "[ONNX Layer: model.6.m.0.0.attn/Attention]"
        return SimpleNamespace(get_engine_information=lambda form: json.dumps({"Layers": [layer, "Reformat"]}))


class RuntimeConfig:
    def __init__(self, trt: Library) -> None:
        self._trt = trt

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache(self._trt)

    def set_runtime_cache(self, cache: Any) -> None: ...


class RuntimeCache:
    def __init__(self, trt: Library) -> None:
        self._trt = trt

    def deserialize(self, held: bytes) -> bool:
        return held.startswith(b"kernels")

    def serialize(self) -> Memory:
        return Memory(b"kernels")


class Context:
    def __init__(self, trt: Library) -> None:
        self._trt = trt
        self._batch = trt.images[0]
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._batch = shape[0]
        return 1 <= shape[0] <= 4

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name == "images":
            return (self._batch, 3, 32, 32)
        return getattr(self._trt, "output_shape", (self._batch, 84, 16))

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def is_stream_capturable(self, stream: int) -> bool:
        return getattr(self._trt, "capturable", True)

    def execute_async_v3(self, stream: int) -> bool:
        buffers = self._trt.device.buffers
        output, images = buffers[self.addresses["output0"]], buffers[self.addresses["images"]]
        output[:] = 2 * images.float().mean((1, 2, 3))[:, None, None].to(output.dtype)
        return not getattr(self._trt, "fails", False)
