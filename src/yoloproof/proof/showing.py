"""Images shown to an artifact: in every slot of its batch another one, and the first image in every slot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloproof.errors import YoloproofError, first_line
from yoloproof.proof.reference import Reference
from yoloproof.runtime import Session

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Shown:
    """One image's index, the slot of the batch it was in, and the artifact's output [4 + nc, A] there."""

    image: int
    slot: int
    output: Array


def show(session: Session, pool: Array, batch: int, seed: int) -> list[Shown]:
    """The artifact's outputs for every image of the pool.

    In the first two runs of a larger batch the first image stands in half of the slots, chosen at random, and then in the
    other half, others of the pool between: each slot sees it, with neighbours that differ from it.
    Raises YoloproofError where the artifact does not run or answers with NaN or infinity.
    """
    return [
        Shown(image, slot, output)
        for run in _runs(len(pool), batch, seed)
        for slot, (image, output) in enumerate(zip(run, answers(session, pool[run]), strict=True))
    ]


def _runs(count: int, batch: int, seed: int) -> list[list[int]]:
    """Indices of the pool, `batch` a run, until each was shown."""
    if batch == 1:
        return [[index] for index in range(count)]
    half = np.random.default_rng(seed).permutation(batch) < batch // 2
    others = iter(np.resize(np.arange(1, max(count, 2)) % count, 2 * (count + batch)).tolist())
    runs = [[0 if first else next(others) for first in slots] for slots in (half, ~half)]
    while len(set().union(*runs)) < count:
        runs.append([next(others) for _ in range(batch)])
    return runs


def answers(session: Session, images: Array) -> Array:
    """The artifact's first output for a whole batch of images."""
    try:
        outputs = session.infer(images)
    except YoloproofError:
        raise
    except Exception as error:  # every runtime has its own, and an artifact that cannot run is a finding
        raise YoloproofError(
            f"the artifact does not run on images of {list(images.shape)}: {first_line(error)};"
            " export it again for this runtime and size"
        ) from None
    if np.shape(outputs[0])[:1] != (len(images),):
        shape = list(np.shape(outputs[0]))
        raise YoloproofError(f"the artifact gives an output {shape} for {len(images)} images; export it again")
    return np.asarray(outputs[0], np.float32)


def outputs_for(wanted: Reference, images: Array) -> Array:
    """The network's outputs, image by image where these are many: half a gigabyte of activations is enough."""
    parts = [images[i : i + 8] for i in range(0, len(images), 8)]
    return np.concatenate([wanted.output(part) for part in parts])


def as_taken(images: Array, session: Session) -> Array:
    """Images as float32, rounded to what the artifact's input type can hold: its input's rounding is not its fault."""
    kind = np.dtype(session.inputs[0].dtype)
    if kind.kind in "ui":
        return (np.rint(images * 255) / 255).astype(np.float32)
    return images.astype(kind).astype(np.float32)
