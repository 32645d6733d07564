"""Damaged images, checkpoints, ONNX and result files until the time is up: every reader answers with a result or with a YoloproofError.

`python tests/detection/fuzz.py --seconds 600` runs it long; tests/detection/test_fuzz.py runs it for some seconds.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from yoloproof.artifact.onnx import read_artifact
from yoloproof.artifact.stated import properties_of, stated_names, stated_size
from yoloproof.detection.images import read_image
from yoloproof.errors import YoloproofError
from yoloproof.inspection import inspect
from yoloproof.network import network_from_checkpoint, read_checkpoint
from yoloproof.results.file import read_result

IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "AVIF", "ICO", "TGA")
RESULTS = sorted((Path(__file__).parents[1] / "results").glob("schema-1-*.json"))
SLOW_S = 60  # a small file that keeps a reader busy that long is a fault, too
MODES = ("RGB", "L", "RGBA", "CMYK", "P", "1", "I;16", "LA")


def image_seeds() -> list[bytes]:
    """Small whole images of every format and mode that this Pillow writes."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 31, 3), dtype=np.uint8)
    seeds = []
    for mode in MODES:
        picture = (
            Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
            if mode == "I;16"
            else Image.fromarray(pixels).convert(mode)
        )
        for kind in IMAGE_FORMATS:
            buffer = io.BytesIO()
            try:
                picture.save(buffer, kind)
            except (OSError, ValueError, KeyError):  # this format does not hold this mode
                continue
            seeds.append(buffer.getvalue())
    return seeds


def checkpoint_seeds() -> list[bytes]:
    """Small `.pt` and `.safetensors` files, shaped like checkpoints."""
    from safetensors.torch import save

    tensors = {
        "model.0.conv.weight": torch.zeros(16, 3, 3, 3),
        "model.6.m.0.0.attn.qk.conv.weight": torch.ones(4, 4, 1, 1),
        "model.32.cv3.0.2.weight": torch.zeros(3, 8, 1, 1),
    }
    seeds = [save(tensors, {"names": '{"0": "cat"}'})]
    for saved in (tensors, {"model": tensors, "names": {0: "cat"}}, {"ema": None, "model": tensors, "epoch": 3}):
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        seeds.append(buffer.getvalue())
    return seeds


def onnx_seeds() -> list[bytes]:
    """A small ONNX file with metadata, a local function and a loop."""
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])
    answer = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 3, 8, 8])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    twice = helper.make_function("f", "twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], opsets)
    graph = helper.make_graph([helper.make_node("twice", ["images"], ["output0"], domain="f")], "g", [image], [answer])
    model = helper.make_model(graph, functions=[twice], opset_imports=opsets)
    names = {"names": "{0: 'cat'}", "imgsz": "[8, 8]", "yoloproof.names": '{"0": "cat"}', "yoloproof.batch": "1"}
    helper.set_model_props(model, names)
    return [model.SerializeToString()]


def read_onnx(path: Path) -> None:
    """What is asked of an ONNX file before a runtime opens it."""
    stated_names(properties_of(read_artifact(path)))
    inspect(path)
    stated_size(str(path))


def mutated(data: bytes, seeds: list[bytes], rng: random.Random) -> bytes:
    """One to eight small injuries: bits, bytes, words, cuts, copies, pieces of another file."""
    body = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if not body:
            break
        at = rng.randrange(len(body))
        # headers decide what a reader does: hit them more often than their share of the file
        at = rng.randrange(min(len(body), 64)) if rng.random() < 0.4 else at
        kind = rng.randrange(7)
        if kind == 0:
            body[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            body[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            body[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80"))
        elif kind == 3:
            del body[at:]
        elif kind == 4:
            del body[at : at + rng.randrange(1, 64)]
        elif kind == 5:
            body[at:at] = body[at : at + rng.randrange(1, 64)]
        else:
            other = rng.choice(seeds)
            start = rng.randrange(len(other))
            body[at : at + 32] = other[start : start + rng.randrange(1, 64)]
    return bytes(body)


def rezipped(data: bytes, seeds: list[bytes], rng: random.Random) -> bytes:
    """A `.pt` whose members are injured and whose zip is whole again, so that the pickle inside is reached."""
    source = zipfile.ZipFile(io.BytesIO(data))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name in source.namelist():
            member = source.read(name)
            made.writestr(name, mutated(member, seeds, rng) if name.endswith(".pkl") or rng.random() < 0.1 else member)
    return buffer.getvalue()


def read_network(path: Path) -> None:
    """What loading weights does."""
    network_from_checkpoint(read_checkpoint(path))


def _outcome(name: str, read: Callable[[Path], object], path: Path) -> str:
    try:
        read(path)
    except YoloproofError:
        return f"{name} refused"
    except Exception as error:  # the very thing looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"crash: {name} {type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
    return f"{name} read"


def fuzz(seconds: float, seed: int = 0, keep: Path | None = None) -> Counter[str]:
    """Runs by outcome: "image read", "image refused", … and "crash: …" for every exception that is not ours."""
    rng = random.Random(seed)
    kinds: tuple[tuple[str, Callable[[Path], object], list[bytes]], ...] = (
        ("image", read_image, image_seeds()),
        ("checkpoint", read_network, checkpoint_seeds()),
        ("onnx", read_onnx, onnx_seeds()),
        ("result", read_result, [file.read_bytes() for file in RESULTS]),
    )
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "injured.onnx"
        while time.monotonic() < end:
            name, read, seeds = rng.choice(kinds)
            data = rng.choice(seeds)
            zipped = data.startswith(b"PK") and rng.random() < 0.8
            path.write_bytes((rezipped if zipped else mutated)(data, seeds, rng))
            started = time.monotonic()
            outcome = _outcome(name, read, path)
            if time.monotonic() - started > SLOW_S:
                outcome = f"crash: {name} took over {SLOW_S} s"
            if outcome.startswith("crash") and outcomes[outcome] == 0 and keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{len(outcomes)}").write_bytes(path.read_bytes())
            outcomes[outcome] += 1
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that crash a reader")
    given = parser.parse_args()
    found = fuzz(given.seconds, given.seed, given.keep)
    for outcome, count in sorted(found.items()):
        print(f"{count:8d}  {outcome}")
    sys.exit(any(outcome.startswith("crash") for outcome in found))
