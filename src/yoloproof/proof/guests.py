"""Is one export of a foreign detector still the same detector as another? Without weights and without its network.

The other export takes the place of the network: its outputs, its detections, and copies of its graph that lost an
attention each. An end-to-end detector chooses among its anchors inside the graph, and two right ones may order equal
scores differently: its rows are matched as a set, and the attention is judged by the scores that the choice is made from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from yoloproof.artifact.attention_pattern import GraphAttention, attentions
from yoloproof.artifact.attention_report import attention_blocks, block_name
from yoloproof.artifact.graph import Graph
from yoloproof.artifact.stated import properties_of_file, stated_names
from yoloproof.detection.guests import Layout, guest_rows, layout_of
from yoloproof.detection.nms import detections_from_output
from yoloproof.detection.pipeline import Suppression, batch_of, detections_of_batch
from yoloproof.errors import YoloproofError, first_line
from yoloproof.files.digest import sha256_of
from yoloproof.files.engine import read_identity
from yoloproof.files.onnx import load_onnx
from yoloproof.names import Precision, Progress, no_progress
from yoloproof.proof.parity import TOLERANCES, Tolerance, detection_parity, output_parity
from yoloproof.proof.running import CONFIDENCE
from yoloproof.proof.sensitivity import UNIFORM, response_check
from yoloproof.proof.showing import as_taken
from yoloproof.records import Check, Verdict
from yoloproof.runtime import Session, SessionSpec, open_session

Array = NDArray[np.float32]
KEPT = Suppression(0.0, 0.7, 300)
NOISE = "random input"


@dataclass(frozen=True)
class Guest:
    """A foreign artifact opened: its file, session and layout, and its graph where it is an ONNX file."""

    path: Path
    session: Session
    layout: Layout
    model: onnx.ModelProto | None

    @property
    def precision(self) -> Precision:
        return Precision.of_dtype(self.session.facts.precision) or Precision.FP32


def verify_guest(
    artifact: Path, session: Session, against: Path, reference: Session, images: Array,
    precision: Precision | None = None, progress: Progress = no_progress,
) -> Verdict:  # fmt: skip
    """Every check of `artifact`, opened in `session`, against the export `against`, opened in `reference`.

    images -- letterboxed real images [n, 3, H, W] of both artifacts' size, 0…1
    precision -- what rounding is allowed for; None: the coarser of the two. Raises YoloproofError where the outputs of
    one cannot be read, or the images do not fit.
    """
    given, wanted = _guest(artifact, session), _guest(against, reference)
    coarser = max(given.precision, wanted.precision, key=list(Precision).index)
    tolerance = TOLERANCES[precision or coarser]
    checks = [_graph_check(given, wanted)] if given.model is not None else []
    progress("outputs on real images", None)
    images = as_taken(images, session)
    try:
        outputs = [_run(guest, images) for guest in (wanted, given)]
    except YoloproofError as error:  # what is not finite, or cannot run, says so itself
        return Verdict((*checks, Check("outputs, real images", False, {}, str(error))))
    checks.append(_output_check(wanted, given, outputs, tolerance, "real images"))
    progress("outputs on random input", None)
    seed = int(sha256_of(artifact)[:8], 16)
    noise = np.random.default_rng(seed).random((batch_of(session), *images.shape[1:]), np.float32)
    noise = as_taken(noise, session)
    noisy = [_run(guest, noise) for guest in (wanted, given)]
    checks.append(_output_check(wanted, given, noisy, tolerance, NOISE))
    checks.append(_detection_check(wanted, given, outputs, tolerance, checks[-2]))
    progress("sensitivity", None)
    checks.append(_sensitivity(given, wanted, images[: batch_of(session)], tolerance))
    return Verdict(tuple(checks))


def graph_alone(artifact: Path, model: Path) -> Check:
    """What the graph shows of an artifact that nothing is named to hold it to: never "passed", since its weights and what
    it computes besides are not looked at. `model` is the file that the user named."""
    say = f"not compared with its weights; add `--against WEIGHTS`, here or to `yoloproof verify {model.name}`"
    if artifact.suffix != ".onnx":
        audit = read_identity(artifact).audit
        fused, found = (len(listed) if isinstance(listed := audit.get(key), list | tuple | dict) else 0
                        for key in ("fused", "attentions"))  # fmt: skip
        return Check("attention", None, dict(audit), f"{fused} of {found} attentions in fused kernels; {say}")
    blocks = attention_blocks(Graph(load_onnx(artifact)))
    lost = [block for block in blocks if block.spelling is None]
    figures = {"blocks": len(blocks), "complete": len(blocks) - len(lost)}
    if lost:
        return Check(
            "attention", False, figures, f"lost: {lost[0].name}: {lost[0].detail} ({len(lost)} of {len(blocks)} blocks)"
        )
    whole = f"{len(blocks)} whole in the graph" if blocks else "unknown: none is found in the graph"
    return Check("attention", None, figures, f"{whole}; {say}")


def _guest(path: Path, session: Session) -> Guest:
    properties = properties_of_file(path)
    layout = layout_of(session.outputs, properties, len(stated_names(properties)) or None)
    if layout is None:
        shapes = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in session.outputs)
        raise YoloproofError(f"{path}: outputs {shapes} are not read here; docs/guests.md lists the layouts that are")
    return Guest(path, session, layout, load_onnx(path) if path.suffix == ".onnx" else None)


def _graph_check(given: Guest, wanted: Guest) -> Check:
    """No attention is lost in the graph, and there are as many as in the other."""
    assert given.model is not None
    blocks = attention_blocks(Graph(given.model))
    lost = [block for block in blocks if block.spelling is None]
    others = None if wanted.model is None else len(attentions(Graph(wanted.model)))
    whole = len(blocks) - len(lost)
    figures = {"blocks": len(blocks), "complete": whole, "other": others}
    if lost:
        return Check("attention", False, figures, f"{lost[0].name}: {lost[0].detail} ({len(lost)} blocks)")
    if others is not None and others != whole:
        return Check("attention", False, figures, f"{whole} attentions in the graph, {others} in {wanted.path.name}")
    return Check(
        "attention", True, figures, f"{whole} attentions, as in {wanted.path.name}" if whole else "none in either graph"
    )


def _filled(images: Array, batch: int) -> Array:
    """A whole batch, its last slots filled with the images from the first on."""
    return images if len(images) >= batch else images[np.arange(batch) % len(images)]


def _run(guest: Guest, images: Array) -> list[NDArray[np.float32]]:
    """The guest's outputs for all images, batch by batch."""
    batch = batch_of(guest.session)
    parts = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        try:
            outputs = guest.session.infer(_filled(part, batch))
        except YoloproofError:
            raise
        except Exception as error:  # every runtime has its own
            raise YoloproofError(
                f"{guest.path}: does not run on images of {list(part.shape)}: {first_line(error)}"
            ) from None
        parts.append([np.asarray(output, np.float32)[: len(part)] for output in outputs])
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _output_check(
    wanted: Guest, given: Guest, outputs: Sequence[list[Array]], tolerance: Tolerance, what: str
) -> Check:
    if wanted.layout is not given.layout:
        detail = f"{given.path.name} answers as {given.layout}, {wanted.path.name} as {wanted.layout}"
        return Check(f"outputs, {what}", None, {}, f"{detail}: only detections can be compared")
    if wanted.layout is Layout.RAW:
        return output_parity(outputs[0][0], outputs[1][0], tolerance, what)
    return row_parity(_rows(wanted, outputs[0]), _rows(given, outputs[1]), tolerance, what)


def _rows(guest: Guest, outputs: list[Array]) -> list[Array]:
    """Per image the detections [n, 6], all that there are; of raw output those that suppression leaves."""
    if guest.layout in (Layout.RAW, Layout.SUPPRESSED):
        return detections_of_batch(guest.session, outputs, KEPT)
    height, width = guest.session.inputs[0].shape[2:]
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else (640, 640)
    return guest_rows(guest.layout, [spec.name for spec in guest.session.outputs], outputs, size)


def row_parity(wanted: Sequence[Array], given: Sequence[Array], tolerance: Tolerance, what: str) -> Check:
    """Two sets of rows [n, 6] per image agree: each has a partner of its class, score and box in the other.

    Rows whose score is within the tolerance of an image's last one may be in one set only. Where no row stands out by
    more, real images show nothing; noise need not, and there the scores alone are held to each other.
    """
    found, lone = 0, 0
    for pair in zip(wanted, given, strict=True):
        last = max((rows[:, 4].min() for rows in pair if len(rows)), default=0.0)
        for rows, others in (pair, pair[::-1]):
            for row in rows[rows[:, 4] > last + tolerance.score]:
                near = (others[:, 5] == row[5]) & (np.abs(others[:, 4] - row[4]) <= tolerance.score)
                found += 1
                lone += not (near & (np.abs(others[:, :4] - row[:4]).max(1) <= tolerance.box_px)).any()
    figures = {"rows": found, "unmatched": lone}
    if not found and what == NOISE:
        distance = max((_score_distance(*pair) for pair in zip(wanted, given, strict=True)), default=np.inf)
        detail = f"no row stands out on noise; scores within {distance:.2g}"
        return Check(f"outputs, {what}", distance <= tolerance.score, {**figures, "score_max": distance}, detail)
    if not found:
        return Check(f"outputs, {what}", None, figures, "all scores are alike: nothing can be told apart by them")
    detail = f"{found - lone} of {found} rows match (boxes within {tolerance.box_px:g} px, scores within {tolerance.score:g})"
    return Check(f"outputs, {what}", lone <= tolerance.unmatched * found, figures, detail)


def _score_distance(wanted: Array, given: Array) -> float:
    """The largest difference of two images' scores in their order; infinite where there are not as many."""
    if len(wanted) != len(given):
        return float("inf")
    return float(np.abs(np.sort(wanted[:, 4]) - np.sort(given[:, 4])).max(initial=0.0))


def _detection_check(
    wanted: Guest, given: Guest, outputs: Sequence[list[Array]], tolerance: Tolerance, raw: Check
) -> Check:
    """Detections above the usual confidence; where there are none, what the check of all outputs said."""
    low = CONFIDENCE - tolerance.detection_score
    both = []
    for guest, found in zip((wanted, given), outputs, strict=True):
        if guest.layout is Layout.RAW:
            both.append([detections_from_output(one, confidence=low) for one in found[0]])
        else:
            both.append([rows[rows[:, 4] > low] for rows in _rows(guest, found)])
    check = detection_parity(list(zip(*both, strict=True)), tolerance, CONFIDENCE)
    if check.passed is None and raw.passed is not None:
        detail = f"none above {CONFIDENCE:g} on these images; all outputs were compared instead"
        return replace(check, passed=raw.passed, detail=detail)
    return check


class Ablations:
    """The other export's graph run as it is and with one attention lost: what `response_check` asks of a network.

    output -- [1, 4 + n, A]: raw output, or no boxes and the scores that an end-to-end graph chooses by
    """

    def __init__(self, model: onnx.ModelProto, tensor: str, images: Array, session: Session) -> None:
        self._model, self._tensor, self._images, self._like = model, tensor, images, session
        self._attentions = {block_name(one): one for one in attentions(Graph(model))}
        self.blocks = list(self._attentions)
        self.output = tensor_of(model, tensor, images, session)
        self._lost: dict[tuple[str, str], Array] = {}

    def without(self, path: str, loss: str) -> Array:
        """The output with the attention at `path` lost: q zero, so that all tokens count alike, or v zero."""
        if (path, loss) not in self._lost:
            model = onnx.ModelProto()
            model.CopyFrom(self._model)
            _lose(model, self._attentions[path], loss)
            self._lost[path, loss] = tensor_of(model, self._tensor, self._images, self._like)
        return self._lost[path, loss]


def _lose(model: onnx.ModelProto, attention: GraphAttention, loss: str) -> None:
    """Put a zero, x - x, in the place of the attention's q or v."""
    lost, reader = (attention.q, attention.core[0]) if loss == UNIFORM else (attention.v, attention.core[-1])
    index = next(i for i, node in enumerate(model.graph.node) if node.output[:1] == reader.output[:1])
    node = model.graph.node[index]
    zero = f"{lost}/lost"
    node.input[list(node.input).index(lost)] = zero
    model.graph.node.insert(index, onnx.helper.make_node("Sub", [lost, lost], [zero], f"{node.name}/lost"))


def tensor_of(model: onnx.ModelProto, tensor: str, images: Array, like: Session) -> Array:
    """A tensor of the graph for images, [1, 4 + n, A], as the runtime of the session `like` computes it."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    if tensor != model.graph.output[0].name:
        info = onnx.helper.make_empty_tensor_value_info(tensor)
        kind = _type_of(model, tensor)
        info.type.tensor_type.elem_type = kind
        del shown.graph.output[:]
        shown.graph.output.append(info)
    with tempfile.TemporaryDirectory(prefix="yoloproof-") as folder:
        file = Path(folder) / "shown.onnx"
        onnx.save(shown, file)
        facts = like.facts
        spec = SessionSpec(facts.name, file, facts.device or "cpu", facts.threads, Precision.of_dtype(facts.precision))
        with open_session(spec) as session:
            values = np.asarray(session.infer(images)[0], np.float32)[:1]
    if tensor == model.graph.output[0].name and values.ndim == 3 and values.shape[1] < values.shape[2]:
        return values
    if tensor == model.graph.output[0].name and values.ndim == 3:
        return values.transpose(0, 2, 1)
    scores = values.reshape(1, 1, -1)
    return np.concatenate([np.zeros((1, 4, scores.shape[2]), np.float32), scores], axis=1)


def _type_of(model: onnx.ModelProto, tensor: str) -> int:
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    return next(int(value.type.tensor_type.elem_type) for value in inferred if value.name == tensor)


def compared_tensor(guest: Guest) -> str | None:
    """What the attentions' effect is judged by: the raw output, else what the first TopK behind all of them chooses by."""
    assert guest.model is not None
    graph = Graph(guest.model)
    if guest.layout in (Layout.RAW, Layout.QUERIES):
        return graph.output
    outputs = {one.output for one in attentions(graph)}
    choices = (node.input[0] for node in graph.nodes if node.op_type == "TopK")
    return next((name for name in choices if outputs <= graph.behind([name])), None)


def _sensitivity(given: Guest, wanted: Guest, images: Array, tolerance: Tolerance) -> Check:
    """The artifact follows each attention that the other export has."""
    if wanted.model is None:
        return Check("sensitivity", None, {}, f"{wanted.path.name} has no graph to take an attention out of")
    if not attentions(Graph(wanted.model)):
        return Check("sensitivity", True, {"blocks": 0}, "no attention in the graph that could be lost")
    tensor = compared_tensor(wanted)
    if tensor is None:
        return Check("sensitivity", None, {}, "no tensor of the graph shows what its attentions do")
    losses = Ablations(wanted.model, tensor, images, wanted.session)
    if given.layout in (Layout.RAW, Layout.QUERIES) and given.layout is wanted.layout:
        output = np.asarray(given.session.infer(images)[0], np.float32)[:1]
        output = output if given.layout is Layout.RAW else output.transpose(0, 2, 1)
    else:
        own = None if given.model is None or given.layout is not wanted.layout else compared_tensor(given)
        if own is None or given.model is None:
            return Check("sensitivity", None, {}, "the artifact does not show the scores that it chooses by")
        output = tensor_of(given.model, own, images, given.session)
    return response_check(losses, output, tolerance.floor)
