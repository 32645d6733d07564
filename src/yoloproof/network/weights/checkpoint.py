"""Weights from files: official `.pt` checkpoints and `.safetensors`, recognised by their tensors, loaded strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from yoloproof.errors import YoloproofError
from yoloproof.files.digest import sha256_of
from yoloproof.files.new import write_new
from yoloproof.files.reading import MOST_MODEL_BYTES, check_regular
from yoloproof.names import MOST_CLASSES, Attention
from yoloproof.network.blocks import NORM_EPS
from yoloproof.network.variants import FAMILIES, VARIANTS, Variant
from yoloproof.network.weights.neighbours import architecture_from_tensors, refusal
from yoloproof.network.weights.unpickle import Inert, checkpoint_from_pt, named_tensors
from yoloproof.network.wiring import Network

# The published tensors that tell a checkpoint's scale: the first convolution, the stages of the first layer of
# attentions, and a level's class output in the head.
STEM = "model.0.conv.weight"
STAGE = re.compile(r"model\.6\.m\.([^.]+)\..+")
CLASSES = re.compile(r"model\.([0-9]{1,3})\.cv3\.0\.2\.weight")
FORMAT = "yoloproof.weights.1"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Of random weights: residual branches stay small, but attention is sharp enough to be missed when it is lost.
RANDOM_GAINS = {".attn.qk.": 3.0, ".attn.proj.": 0.4, ".mlp.1.": 0.2}


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by published name as they stand in the file, class names, and where they came from."""

    tensors: Mapping[str, Tensor]
    names: Mapping[int, str]
    source: str
    sha256: str


def read_checkpoint(path: Path) -> Checkpoint:
    """Read `.pt` or `.safetensors` (recognised by content). YoloproofError names the file and what is wrong with it."""
    if not path.exists():
        raise YoloproofError(f"{path}: no such file")
    if path.is_dir():
        raise YoloproofError(f"{path}: a folder, not a checkpoint; name the .pt or .safetensors file in it")
    check_regular(path, MOST_MODEL_BYTES)
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise YoloproofError(f"{path}: cannot be read ({error.strerror})") from None
    if not head:
        raise YoloproofError(f"{path}: empty file; fetch it again")
    if head.startswith(b"version https://git-lfs"):
        raise YoloproofError(
            f"{path}: a Git LFS pointer, not the weights; run 'git lfs pull' or download the file itself"
        )
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise YoloproofError(f"{path}: a web page, not weights; download the release file itself")
    if head.startswith(b"PK"):
        return _checkpoint_from_pt(path)
    if path.suffix == ".safetensors" or (len(head) > 9 and head[8:9] == b"{"):
        return _checkpoint_from_safetensors(path)
    if head.startswith(b"\x80"):
        raise YoloproofError(
            f"{path}: a bare pickle, which is never opened; save it with torch.save of PyTorch 1.6 or newer"
        )
    raise YoloproofError(f"{path}: neither a PyTorch zip (.pt) nor .safetensors")


def _checkpoint_from_pt(path: Path) -> Checkpoint:
    saved = checkpoint_from_pt(path)
    model, names = saved, None
    if isinstance(saved, dict):
        # The published code loads the EMA where training left one, else the model itself.
        parts = (saved.get(part) for part in ("ema", "model"))
        model = next((part for part in parts if isinstance(part, Inert | dict) and part), saved)
        names = saved.get("names")
    tensors: dict[str, Tensor] = {}
    if isinstance(model, Inert):
        names = _names_below(model) or names
        try:
            tensors = named_tensors(model)
        except ValueError as error:
            raise YoloproofError(f"{path}: damaged checkpoint ({error})") from None
    elif isinstance(model, dict):
        tensors = {key: value for key, value in model.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        keys = [key for key in saved if isinstance(key, str)] if isinstance(saved, dict) else [type(saved).__name__]
        raise YoloproofError(
            f"{path}: no network in it (found: {', '.join(keys[:6])}); a training state without model or ema cannot run"
        )
    return Checkpoint(tensors, _names(names), str(path), sha256_of(path))


def _names_below(module: Inert) -> Any:
    """A module's class names, or, where training wrapped it (DistributedDataParallel), those of the module inside."""
    wrapped = getattr(module, "_modules", None)
    inner = wrapped.get("module") if isinstance(wrapped, dict) else None
    return getattr(module, "names", None) or (getattr(inner, "names", None) if isinstance(inner, Inert) else None)


def _checkpoint_from_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        names = json.loads(metadata.get("names", "null"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise YoloproofError(f"{path}: damaged or truncated safetensors ({error}); fetch it again") from None
    if not tensors:
        raise YoloproofError(f"{path}: holds no tensors")
    return Checkpoint(tensors, _names(names), str(path), sha256_of(path))


def _names(names: Any) -> dict[int, str]:
    """Class names by index from a mapping or a list; what cannot be printed (control characters) becomes "?"."""
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list | tuple) else ()
    return {
        int(index): "".join(c if c.isprintable() else "?" for c in str(name))
        for index, name in pairs
        if isinstance(index, int | str)
        and isinstance(name, int | str)
        and re.fullmatch("[0-9]{1,6}", str(index))
        and int(index) < MOST_CLASSES
    }


def network_from_checkpoint(checkpoint: Checkpoint, attention: str = Attention.FUSED) -> Network:
    """The network these tensors are of, strictly loaded in float32. Raises YoloproofError for anything else."""
    source = checkpoint.source
    tensors = _without_wrapper(checkpoint.tensors)
    variant, classes = variant_from_tensors(tensors, source)
    network = Network(variant, classes, attention, names=checkpoint.names, source=source, sha256=checkpoint.sha256)
    expected = network.state_dict()
    tensors = _with_norms(tensors, expected)
    difference = _difference(tensors, expected)
    if difference:
        raise YoloproofError(f"{source}: looks like {variant.name} but {difference}")
    tensors = {name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise YoloproofError(
                f"{source}: tensor {name} holds NaN or infinity; the training diverged or the file is damaged"
            )
    network.load_state_dict(tensors, strict=True)
    return network


def _without_wrapper(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Names without what all of them begin with (`module.` of DistributedDataParallel, `_orig_mod.` of torch.compile)."""
    stems = (name.removesuffix(STEM) for name in tensors if name.endswith(STEM))
    prefix = min(stems, key=len, default="")
    if not all(name.startswith(prefix) for name in tensors):
        return tensors
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def variant_from_tensors(tensors: Mapping[str, Tensor], source: str) -> tuple[Variant, int]:
    """Family, scale and class count as the tensors' names and shapes tell them; the file's name plays no part."""
    if (why := refusal(tensors)) is not None:
        raise YoloproofError(f"{source}: {why}")
    found = architecture_from_tensors(tensors)
    assert found is not None
    outputs = {int(m[1]): tensor for name, tensor in tensors.items() if (m := CLASSES.fullmatch(name))}
    stem = tensors.get(STEM)
    if stem is None or not outputs:
        raise YoloproofError(
            f"{source}: {found.name} without its first convolution or its class outputs; fetch it again"
        )
    head = max(outputs)
    if stem.ndim != 4 or outputs[head].ndim != 4:
        raise YoloproofError(f"{source}: first convolution or class output has the wrong rank for a YOLO")
    if outputs[head].shape[0] > MOST_CLASSES:
        raise YoloproofError(f"{source}: {outputs[head].shape[0]:,} classes; a network has at most {MOST_CLASSES:,}")
    stages = len({m[1] for name in tensors if (m := STAGE.fullmatch(name))})
    for variant in VARIANTS.values():
        told = variant.family, FAMILIES[variant.family].head, variant.channels(64), variant.repeats(4)
        if told == (found.family, head, stem.shape[0], stages):
            return variant, int(outputs[head].shape[0])
    raise YoloproofError(
        f"{source}: {found.name}, but no known scale has {stem.shape[0]} channels after the stem, {stages} attention stages and its head at"
        f" layer {head}; known: {', '.join(VARIANTS)}"
    )


def _with_norms(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors with a norm for every convolution that has a bias in its place (a fused module): (Wx - 0)/√1 + bias."""
    tensors = dict(given)
    for name in expected:
        norm = name.removesuffix(".running_var")
        convolutions = (f"{norm.removesuffix('.bn')}.{conv}.bias" for conv in ("conv", "pw"))
        bias = next((one for one in convolutions if one in tensors), None)
        if norm == name or name in given or bias is None:
            continue
        shift = tensors.pop(bias)
        tensors |= {
            f"{norm}.weight": torch.ones(shift.shape), f"{norm}.bias": shift, f"{norm}.running_mean": torch.zeros(shift.shape),
            name: torch.full(shift.shape, 1 - NORM_EPS), f"{norm}.num_batches_tracked": torch.tensor(0),
        }  # fmt: skip
    return tensors


def _difference(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """How the first tensor that does not fit fails to; empty where all fit."""
    missing, extra = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    if missing:
        folded = " (its batch norms are folded in: use the weights saved before fuse())" if ".bn." in missing[0] else ""
        return f"lacks {len(missing)} tensors, first {missing[0]}{folded}"
    if extra:
        return f"has {len(extra)} tensors too many (training-only parts?), first {extra[0]}"
    for name, wanted in expected.items():
        found = given[name]
        if found.shape != wanted.shape:
            shapes = f"{list(found.shape)} where {list(wanted.shape)} belongs"
            return f"tensor {name} has shape {shapes} (a training-only shape?)"
        if wanted.is_floating_point() and found.dtype not in FLOATS:
            return f"tensor {name} holds {found.dtype} (a quantized network?); weights must be float16, bfloat16 or float32"
    return ""


def save_safetensors(network: Network, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the weights under their published names, with variant, class names and source hash as metadata.

    Raises YoloproofError when `path` exists or the network was simplified (its tensors have other names then).
    """
    if not isinstance(network, Network):
        raise YoloproofError("a simplified network cannot be saved as weights; save it before simplify()")
    tensors = {n: (t.to(dtype) if t.is_floating_point() else t).contiguous() for n, t in network.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "variant": network.variant.name,
        "names": json.dumps({str(i): name for i, name in network.names.items()}),
        "source_sha256": network.sha256 or "",
    }
    write_new(save(tensors, metadata), path)


def random_tensors(network: Network, seed: int) -> dict[str, Tensor]:
    """Reproducible weights on any machine (NumPy's PCG64): convolutions scaled by 1/√fan-in, gates and gamma in 0.1…0.5,
    so that no branch is multiplied away and activations neither vanish nor overflow."""
    tensors = {}
    for index, (name, like) in enumerate(network.state_dict().items()):
        rng = np.random.default_rng([seed, index])
        shape = tuple(like.shape)
        if name.endswith(("num_batches_tracked", "dfl.conv.weight")):
            tensors[name] = like.clone()
            continue
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            values = 0.5 + rng.random(shape)
        elif name.endswith(("gate", "gamma")):
            values = 0.1 + 0.4 * rng.random(shape)
        elif len(shape) >= 2:
            gain = next((g for part, g in RANDOM_GAINS.items() if part in name), 1.2)
            values = rng.standard_normal(shape) * (gain / float(np.prod(shape[1:])) ** 0.5)
        else:
            values = 0.1 * rng.standard_normal(shape)
        tensors[name] = torch.from_numpy(np.asarray(values, np.float32))
    return tensors
