"""What every runtime does to tensors: check and cast images, fill a foreign detector's further inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError
from yoloproof.records import SessionFacts
from yoloproof.runtime.base import TensorSpec


def image_first(inputs: Sequence[TensorSpec], artifact: str) -> tuple[TensorSpec, ...]:
    """The inputs with the image in front: the one input of four dimensions whose second is 3 (or dynamic)."""
    images = [
        spec for spec in inputs if len(spec.shape) == 4 and (spec.shape[1] == 3 or isinstance(spec.shape[1], str))
    ]
    if len(images) != 1:
        shapes = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in inputs)
        raise YoloproofError(f"{artifact}: no single image input [B, 3, H, W] among: {shapes}; is it a detector?")
    return (images[0], *(spec for spec in inputs if spec is not images[0]))


def check_images(images: NDArray[Any], spec: TensorSpec) -> None:
    """Raise YoloproofError unless images [B, 3, H, W] fit the input's shape, dynamic dimensions aside."""
    fits = images.ndim == len(spec.shape) and all(
        isinstance(size, str) or size == given for size, given in zip(spec.shape, images.shape, strict=True)
    )
    if not fits:
        wanted, given = list(spec.shape), list(images.shape)
        raise YoloproofError(
            f"input {spec.name} takes images {wanted}, not {given}; change --imgsz/--batch or re-export"
        )


def cast_images(images: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Images in 0…1 as a fresh contiguous array of `dtype`; an integer type gets 0…255."""
    kind = np.dtype(dtype)
    if kind.kind in "ui":
        return np.ascontiguousarray(np.rint(np.clip(images, 0, 1) * 255).astype(kind))
    return np.array(images, dtype=kind, order="C", copy=True)


def companion_inputs(
    specs: Sequence[TensorSpec], image_shape: Sequence[int], given: Mapping[str, Sequence[Any]]
) -> dict[str, NDArray[Any]]:
    """Values for a foreign detector's inputs beside the image.

    `given` (name → values) wins. Otherwise an input of shape [B, 2] gets the image's size: integers as width, height
    (RT-DETR's `orig_target_sizes`), or, where the name says so, height, width (`im_shape`) or ones (`scale_factor`),
    as PaddleDetection's exports take them. Anything else is refused: a guessed input would time another network.
    """
    batch, height, width = image_shape[0], image_shape[2], image_shape[3]
    return {spec.name: _companion(spec, batch, height, width, given) for spec in specs}


def _companion(
    spec: TensorSpec, batch: int, height: int, width: int, given: Mapping[str, Sequence[Any]]
) -> NDArray[Any]:
    if spec.name in given:
        return np.ascontiguousarray(np.asarray(given[spec.name], dtype=spec.dtype))
    if len(spec.shape) == 2 and spec.shape[1] == 2:
        row = {"scale_factor": (1, 1), "im_shape": (height, width)}.get(spec.name)
        if row is None and np.dtype(spec.dtype).kind == "i":
            row = (width, height)
        if row is not None:
            return np.tile(np.array(row, dtype=spec.dtype), (batch, 1))
    raise YoloproofError(
        f"input {spec.name} {list(spec.shape)} {spec.dtype} is not an image and not a known companion of one; "
        f"give its values with SessionOptions(inputs={{'{spec.name}': …}})"
    )


def with_filled_inputs(facts: SessionFacts, filled: Mapping[str, NDArray[Any]]) -> SessionFacts:
    """The facts with what the inputs besides the image were filled with, as text; unchanged where there are none."""
    if not filled:
        return facts
    return replace(facts, filled_inputs={name: str(array.tolist()) for name, array in filled.items()})
