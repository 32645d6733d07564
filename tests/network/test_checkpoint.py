"""Checkpoints: read without running them, recognised by their tensors, refused clearly."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from yoloproof.errors import YoloproofError
from yoloproof.network import load_network, read_checkpoint, save_safetensors
from yoloproof.network.variants import FAMILIES
from yoloproof.network.weights import download
from yoloproof.network.weights.unpickle import _Unpickler
from yoloproof.simplify.rewrites import simplify


def test_the_official_format_loads(trained_path: Path) -> None:
    network = load_network(trained_path)
    assert network.variant.name == "yolov13n"
    assert network.names[0] == "person"
    assert len(network.names) == 80
    assert network.sha256 is not None
    assert all(p.dtype == torch.float32 for p in network.parameters())


def test_scale_and_classes_come_from_the_tensors(tmp_path: Path) -> None:
    for name, classes in (("yolov12s", 3), ("yolov13l", 1)):
        network = load_network(name, random_weights=True, classes=classes)
        path = tmp_path / "yolov13x.safetensors"  # a name that lies
        path.unlink(missing_ok=True)
        save_safetensors(network, path)
        loaded = load_network(path)
        assert (loaded.variant.name, loaded.classes) == (name, classes)
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), loaded.parameters(), strict=True))


def test_safetensors_carry_variant_names_and_source(trained: object, tmp_path: Path) -> None:
    save_safetensors(trained, tmp_path / "w.safetensors", torch.float16)  # type: ignore[arg-type]
    loaded = load_network(tmp_path / "w.safetensors")
    assert loaded.names[16] == "dog"
    with pytest.raises(YoloproofError, match="exists"):
        save_safetensors(loaded, tmp_path / "w.safetensors")
    with pytest.raises(YoloproofError, match="simplified"):
        save_safetensors(simplify(loaded), tmp_path / "v.safetensors")


def test_ema_goes_before_model(tmp_path: Path) -> None:
    plain = load_network("yolov12n", random_weights=True, classes=2, seed=1)
    average = load_network("yolov12n", random_weights=True, classes=2, seed=2)
    torch.save({"model": plain.state_dict(), "ema": average.state_dict(), "epoch": 3}, tmp_path / "run.pt")
    loaded = load_network(tmp_path / "run.pt")
    assert torch.equal(loaded.model[0].conv.weight, average.model[0].conv.weight)


def test_what_training_leaves_beside_the_weights_does_not_matter(tmp_path: Path) -> None:
    """NumPy figures, paths, dates, wrappers, attributes on tensors: as checkpoints of users' own training hold them."""
    network = load_network("yolov12n", random_weights=True, classes=2)
    weights = {f"module._orig_mod.{name}": tensor for name, tensor in network.state_dict().items()}
    marked = torch.nn.Parameter(weights["module._orig_mod.model.0.conv.weight"])
    marked.mark = "hung on by training code"
    plain = weights["module._orig_mod.model.1.conv.weight"].clone()
    plain.mark = "too"
    weights |= {"module._orig_mod.model.0.conv.weight": marked, "module._orig_mod.model.1.conv.weight": plain}
    beside = {
        "best_fitness": np.float64(0.3), "curve": np.ones(3), "where": Path("runs"), "when": datetime.now(timezone.utc),
        "state": defaultdict(dict), "ema": None, "updates": {1, 2}, "device": torch.device("cpu"),
    }  # fmt: skip
    torch.save({**beside, "model": weights, "names": ["bolt", "nut\x1b[31m\ud800"]}, tmp_path / "last.pt")
    loaded = load_network(tmp_path / "last.pt")
    assert loaded.names == {0: "bolt", 1: "nut?[31m?"}
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def tree_of(tensors: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Module objects that hold these tensors under these names, as an official checkpoint does."""
    root = torch.nn.Module()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        module = root
        for step in path:
            if step not in module._modules:
                module.add_module(step, torch.nn.Module())
            module = module.get_submodule(step)
        module.register_buffer(last, tensor)
    return root


def test_a_wrapped_module_keeps_its_names_and_its_weights(tmp_path: Path) -> None:
    network = load_network("yolov12n", random_weights=True, classes=2)
    wrapper = torch.nn.Module()
    wrapper.module = tree_of(network.state_dict())  # as DistributedDataParallel does
    wrapper.module.names = {0: "bolt", 1: "nut"}
    torch.save({"ema": wrapper, "model": None}, tmp_path / "ddp.pt")
    loaded = load_network(tmp_path / "ddp.pt")
    assert loaded.names == {0: "bolt", 1: "nut"}
    assert torch.equal(loaded.model[5].conv.weight, network.model[5].conv.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_type_loads(dtype: torch.dtype, tmp_path: Path) -> None:
    network = load_network("yolov12n", random_weights=True, classes=2)
    weights = {n: t.to(dtype) if t.is_floating_point() else t for n, t in network.state_dict().items()}
    torch.save({"model": weights}, tmp_path / "w.pt")
    loaded = load_network(tmp_path / "w.pt")
    assert loaded.model[5].conv.weight.dtype == torch.float32
    assert torch.equal(loaded.model[5].conv.weight, weights["model.5.conv.weight"].float())


def test_yolo12_as_ultralytics_trains_and_saves_it_loads(reference: Path) -> None:
    """float16, with train_args, metrics and the versions of many libraries beside the module."""
    checkpoint = read_checkpoint(reference / "yolo12n-coco128.pt")
    assert {t.dtype for t in checkpoint.tensors.values() if t.is_floating_point()} == {torch.float16}
    network = load_network(reference / "yolo12n-coco128.pt")
    assert (network.variant.name, network.classes, network.names[16]) == ("yolo12n", 80, "dog")


@pytest.mark.parametrize("name", ["yolov13n", "yolov12n", "yolo12n"])
def test_a_fused_module_loads_with_the_same_weights(name: str, tmp_path: Path) -> None:
    """Fusing folds the norms, gives every convolution a bias and puts one method in the place of another."""
    folded = simplify(load_network(name, random_weights=True, classes=2), ("norms",))
    tree = tree_of(folded.state_dict())
    tree.model.forward = tree.model.half  # pickled as getattr(module, "half")
    tree.model.detect = torch.nn.SiLU.forward  # pickled as getattr(class, "forward"), as other heads keep a detector's
    torch.save({"model": tree, "ema": None}, tmp_path / "fused.pt")
    loaded = load_network(tmp_path / "fused.pt")
    assert loaded.variant.name == name
    again = simplify(loaded, ("norms",)).state_dict()
    assert all(torch.equal(again[key], tensor) for key, tensor in folded.state_dict().items())


def test_an_export_is_told_from_a_checkpoint(tmp_path: Path) -> None:
    torch.jit.trace(torch.nn.SiLU(), torch.zeros(1)).save(tmp_path / "yolo12n.pt")
    with pytest.raises(YoloproofError, match="TorchScript program"):
        read_checkpoint(tmp_path / "yolo12n.pt")


class Calls:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> object:
        return self.call


def pickled_zip(path: Path, payload: object) -> Path:
    stream = io.BytesIO()
    pickle.dump(payload, stream, protocol=2)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/byteorder", "little")
    return path


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (lambda mark: Calls(os.system, f"touch {mark}"), "posix.system"),
        (lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"), "builtins.eval"),
        (lambda mark: {"ema": None, "model": [{"deep": Calls(exec, f"open({str(mark)!r}, 'w')")}]}, "builtins.exec"),
        (lambda mark: Calls(getattr, Calls(__import__, "os"), "system"), "builtins.__import__"),
        (lambda mark: Calls(getattr, "text", "upper"), "builtins.getattr"),
    ],
)
def test_a_pickle_that_calls_anything_is_refused_by_name(payload, named: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    mark = tmp_path / "ran"
    with pytest.raises(YoloproofError, match=named):
        read_checkpoint(pickled_zip(tmp_path / "evil.pt", payload(mark)))
    assert not mark.exists()


MODULE = b"cultralytics.nn\nM\n)\x81"  # an instance of ultralytics.nn.M
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
HOSTILE = {
    "tuples nested until hashing one overflows the stack": (b"\x80\x02})" + b"\x85" * 400_000 + b"K\x01s.", "nested tuple"),
    "tuples that hold the last one twice": (b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.", "nested tuple"),
    "such tuples in a set": (
        b"\x80\x02cbuiltins\nset\n]()" + b"2\x86" * 60 + b"e\x85R.", "nested tuple",
    ),
    "numbers of one hash": (b"\x80\x02}\x8a\x09" + (5 * (2**61 - 1)).to_bytes(9, "little") + b"K\x01s.", "enormous number"),
    "a memo slot that takes 16 GB": (b"\x80\x02}r" + struct.pack("<I", 2**31 - 5) + b".", "no network in it"),
    "a storage key of such tuples": (
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n)" + b"2\x86" * 60
        + b"X\x03\x00\x00\x00cpuK\x01tQ.", "no storage",
    ),
    "a state for a function": (b"\x80\x02" + REBUILD + b"}X\x04\x00\x00\x00markK\x01sb.", "a state for a function"),
    "slots for a function": (
        b"\x80\x02" + REBUILD + b"N}X\x0c\x00\x00\x00__defaults__)s\x86b.", "a state for a function",
    ),
    "a state for a type": (b"\x80\x02ctorch\nfloat32\n}X\x04\x00\x00\x00markK\x01sb.", "a state for a dtype"),
    "a state for a container's type": (
        b"\x80\x02ccollections\nOrderedDict\n}X\x04\x00\x00\x00markK\x01sb.", "a state for a function",
    ),
    "a module of a long name that contains itself": (
        b"\x80\x02" + MODULE + b"q\x01}X\x08\x00\x00\x00_modules}X\x00\x10\x00\x00" + b"a" * 4096 + b"h\x01ssb.",
        "contains itself",
    ),
    "a module that contains itself": (
        b"\x80\x02" + MODULE + b"q\x01}X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00ah\x01ssb.", "contains itself",
    ),
    "a module table that is none": (b"\x80\x02" + MODULE + b"}X\x08\x00\x00\x00_modulesK\x07sb.", "no network in it"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_pickle_against_the_reader_itself_is_refused(case: str, tmp_path: Path) -> None:
    data, words = HOSTILE[case]
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("archive/data.pkl", data)
    with pytest.raises(YoloproofError, match=words):
        read_checkpoint(tmp_path / "evil.pt")
    assert not vars(_Unpickler._tensor)
    assert _Unpickler._tensor.__defaults__ is None


def test_a_state_for_a_tensor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.zeros(8)
    rebuilt = (torch._utils._rebuild_tensor_v2, (tensor._typed_storage(), 0, (8,), (1,), False, {}), {"mark": 1})
    monkeypatch.setattr(torch.Tensor, "__reduce_ex__", lambda self, protocol: rebuilt)
    torch.save({"model": {"w": tensor}}, tmp_path / "w.pt")
    with pytest.raises(YoloproofError, match="a state for a Tensor"):
        read_checkpoint(tmp_path / "w.pt")


def test_a_file_of_a_few_bytes_with_a_billion_classes(tmp_path: Path) -> None:
    """Tensors without numbers take no bytes, and their shapes say what they like."""
    names = list(load_network("yolov12n", random_weights=True).state_dict())
    tensors = {name: torch.zeros(16, 3, 0, 3) if name == "model.0.conv.weight" else torch.zeros(0) for name in names}
    tensors["model.21.cv3.0.2.weight"] = torch.zeros(10**9, 0, 1, 1)
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(YoloproofError, match="1,000,000,000 classes"):
        load_network(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((2**40,), (0,), 0), ((5,), (2**62,), 0), ((2, 2), (-1, 1), 1), ((8,), (1,), 1), ((2,), (1,), -1)],
)
def test_a_tensor_never_leaves_its_storage(
    size: tuple[int, ...], stride: tuple[int, ...], offset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = torch.zeros(8)
    torch.save({"model": {"w": tensor}}, tmp_path / "whole.pt")
    rebuilt = (torch._utils._rebuild_tensor_v2, (tensor._typed_storage(), offset, size, stride, False, {}))
    monkeypatch.setattr(torch.Tensor, "__reduce_ex__", lambda self, protocol: rebuilt)
    torch.save({"model": {"w": tensor}}, tmp_path / "w.pt")
    read_checkpoint(tmp_path / "whole.pt")
    with pytest.raises(YoloproofError, match="leaves its 8 stored numbers"):
        read_checkpoint(tmp_path / "w.pt")


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(10_000_000))
    with pytest.raises(YoloproofError, match="zip bomb"):
        read_checkpoint(tmp_path / "bomb.pt")


def test_a_reduce_inside_an_allowed_class_runs_nothing(tmp_path: Path) -> None:
    # torch.nn classes are stand-ins: calling one with arguments makes an object and nothing else
    with pytest.raises(YoloproofError, match="no network in it"):
        read_checkpoint(pickled_zip(tmp_path / "c.pt", Calls(torch.nn.Linear, 2, 2)))


def test_broken_files_each_have_their_line(trained_path: Path, tmp_path: Path) -> None:
    whole = trained_path.read_bytes()

    def file(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    nan = load_network("yolov12n", random_weights=True)
    nan.model[5].conv.weight[0, 0, 0, 0] = float("nan")
    save_safetensors(nan, tmp_path / "nan.safetensors")
    extra = load_network("yolov12n", random_weights=True).state_dict()
    torch.save({"model": {**extra, "model.22.aux.weight": torch.ones(3)}}, tmp_path / "extra.pt")
    torch.save({"model": {**extra, "model.5.conv.weight": torch.ones(3, 3, 3, 3)}}, tmp_path / "shape.pt")
    torch.save({"model": {k: v for k, v in extra.items() if "model.5." not in k}}, tmp_path / "lacks.pt")
    old = {k.replace(".attn.qk.", ".attn.qkv."): v for k, v in extra.items()}
    torch.save({"model": old}, tmp_path / "old.pt")
    weights = extra["model.5.conv.weight"]
    torch.save({"model": {**extra, "model.5.conv.weight": weights.to(torch.int8)}}, tmp_path / "int8.pt")
    torch.save({"model": {**extra, "model.5.conv.weight": weights.double() * 1e300}}, tmp_path / "big.pt")
    torch.save({"model": {k: v for k, v in extra.items() if ".bn." not in k}}, tmp_path / "fused.pt")
    torch.save({"model": {"fc.weight": torch.ones(3, 3)}}, tmp_path / "other.pt")
    torch.save({"optimizer": {"state": {}}, "epoch": 7}, tmp_path / "training.pt")
    cases = {
        file("empty.pt", b""): "empty file",
        file("cut.pt", whole[: len(whole) // 2]): "not a whole PyTorch zip",
        file("lfs.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"): "Git LFS pointer",
        file("page.pt", b"<!DOCTYPE html><html>Not found</html>"): "web page",
        file("noise.pt", bytes(range(64))): "neither a PyTorch zip",
        file("bare.pt", pickle.dumps({"a": 1})): "bare pickle",
        file("cut.safetensors", (tmp_path / "nan.safetensors").read_bytes()[:5000]): "damaged or truncated safetensors",
        tmp_path / "nan.safetensors": "NaN",
        tmp_path / "extra.pt": "model.22.aux.weight",
        tmp_path / "shape.pt": "training-only shape",
        tmp_path / "lacks.pt": "lacks 6 tensors, first model.5.bn.bias",
        tmp_path / "int8.pt": "torch.int8",
        tmp_path / "big.pt": "NaN or infinity",
        tmp_path / "fused.pt": "folded in",
        tmp_path / "old.pt": "looks like yolo12n but",
        tmp_path / "other.pt": "not one of the YOLOv13, YOLOv12 and YOLO12 detectors",
        tmp_path / "training.pt": "no network in it",
        tmp_path: "a folder",
        tmp_path / "gone.pt": "no such file",
    }
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    cases[tmp_path / "zip.pt"] = "no data.pkl"
    for path, line in cases.items():
        with pytest.raises(YoloproofError, match=line) as caught:
            load_network(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_a_storage_is_never_read_past_its_end(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(8)}}, tmp_path / "ok.pt")
    with zipfile.ZipFile(tmp_path / "ok.pt") as source, zipfile.ZipFile(tmp_path / "short.pt", "w") as target:
        for item in source.namelist():
            data = source.read(item)
            target.writestr(item, data[:4] if item.endswith("data/0") else data)
    with pytest.raises(YoloproofError, match="damaged checkpoint"):
        read_checkpoint(tmp_path / "short.pt")


def test_downloads_are_cached_and_held_to_their_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The release address replaced by a folder served over HTTP on this machine; the rest is the real path."""
    import functools
    import http.server
    import threading

    served = tmp_path / "release"
    served.mkdir()
    torch.save({"model": load_network("yolov12n", random_weights=True).state_dict()}, served / "yolov12n.pt")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setitem(download.FAMILIES, "yolov12", replace(FAMILIES["yolov12"], release=address))
    try:
        assert load_network("yolov12n").variant.name == "yolov12n"
    finally:
        server.shutdown()
    (said,) = caplog.messages
    assert "this first download is trusted" in said
    assert load_network("yolov12n").sha256 is not None  # from the cache, with the server gone
    assert caplog.messages == [said]
    record = json.loads((download.cache_folder() / "sha256.json").read_text())
    assert len(record["yolov12n"]) == 64
    path = download.cache_folder() / "yolov12n.pt"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(YoloproofError, match="SHA-256 is not"):
        load_network("yolov12n")
    (download.cache_folder() / "sha256.json").write_text("[")
    with pytest.raises(YoloproofError, match="record of downloads"):
        load_network("yolov12n")


def test_without_a_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(download.FAMILIES, "yolov13", replace(FAMILIES["yolov13"], release="http://127.0.0.1:9/"))
    with pytest.raises(YoloproofError, match="--random-weights") as caught:
        load_network("yolov13s")
    assert str(tmp_path) in str(caught.value)
