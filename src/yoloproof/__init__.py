"""What an attention YOLO takes to run, proved before it is timed.

Every command has its function: `load_network`, `export_onnx`, `engine_from_onnx`, `verify`, `profile`,
`measure`, and `ProfileModels` and `benchmark` for scripts that used ultralytics'. They load on first use, so that importing
the package is quick.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_FUNCTIONS = {
    "ProfileModels": "yoloproof.profile_models",
    "YoloproofError": "yoloproof.errors",
    "benchmark": "yoloproof.format_benchmark",
    "engine_from_onnx": "yoloproof.artifact.engine",
    "export_onnx": "yoloproof.artifact.onnx",
    "load_network": "yoloproof.network",
    "measure": "yoloproof.measurement.benchmarking:benchmark",
    "open_session": "yoloproof.runtime",
    "opened": "yoloproof.opening",
    "profile": "yoloproof.pipeline",
    "verify": "yoloproof.proof.verify",
}
__all__ = sorted([*_FUNCTIONS, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module 'yoloproof' has no attribute '{name}'")
    module, _, function = _FUNCTIONS[name].partition(":")
    return getattr(import_module(module), function or name)
