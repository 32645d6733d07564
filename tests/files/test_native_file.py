"""The file of a native engine: what is written comes back, and what is not whole is refused in one line."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from native_engines import engine
from yoloproof.errors import YoloproofError
from yoloproof.files.native import _seal, read_native, write_native


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("native") / "tiny.native"
    write_native(engine(), file)
    return file


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def rewritten(path, folder, change):
    """A copy whose members went through `change`."""
    file = folder / "other.native"
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in change(members(path)).items():
            archive.writestr(name, content)
    return file


def sealed(path, folder, name, change):
    """A copy with one JSON member changed, under hashes and a seal that fit it."""

    def resealed(parts):
        content = json.loads(parts[name])
        change(content)
        parts |= {name: json.dumps(content).encode()}
        manifest = json.loads(parts["manifest.json"])
        manifest["members"] = {key: sha256(text).hexdigest() for key, text in parts.items() if key != "manifest.json"}
        manifest["seal"] = _seal(manifest)
        return parts | {"manifest.json": json.dumps(manifest).encode()}

    return rewritten(path, folder, resealed)


def refusal(path) -> str:
    with pytest.raises(YoloproofError) as caught:
        read_native(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_engine_comes_back_as_it_was_written(path):
    found, wanted = read_native(path), engine()
    assert (found.plan, found.code, found.properties, found.built) == (
        wanted.plan, wanted.code, wanted.properties, wanted.built
    )  # fmt: skip
    assert all(np.array_equal(found.weights[name], values) for name, values in wanted.weights.items())
    assert np.array_equal(found.evidence.images, wanted.evidence.images)
    assert np.array_equal(found.evidence.outputs, wanted.evidence.outputs)


def test_the_same_engine_is_the_same_file(path, tmp_path):
    write_native(engine(), tmp_path / "again.native")
    assert (tmp_path / "again.native").read_bytes() == path.read_bytes()


def test_an_existing_file_is_not_overwritten(path):
    with pytest.raises(YoloproofError, match="never overwritten"):
        write_native(engine(), path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(path, tmp_path, share):
    cut = tmp_path / "cut.native"
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "truncated" in refusal(cut)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.native")


@pytest.mark.parametrize(
    "name", ["plan.json", "weights.safetensors", "evidence.safetensors", "code/7.5.cubin", "code/7.5.ptx"]
)
def test_an_edited_member_is_refused(path, tmp_path, name):
    def change(parts):
        edited = bytearray(parts[name])
        edited[-1] ^= 1
        return {**parts, name: bytes(edited)}

    assert f"{name} was edited" in refusal(rewritten(path, tmp_path, change))


def test_a_missing_or_added_member_is_refused(path, tmp_path):
    def without(parts):
        return {name: content for name, content in parts.items() if name != "weights.safetensors"}

    assert "weights.safetensors was edited" in refusal(rewritten(path, tmp_path, without))
    more = rewritten(path, tmp_path, lambda parts: {**parts, "extra.py": b"print(1)"})
    assert "extra.py was edited" in refusal(more)


def test_an_edited_manifest_is_refused(path, tmp_path):
    def change(parts):
        manifest = json.loads(parts["manifest.json"])
        manifest["built"]["yoloproof"] = "another"
        return {**parts, "manifest.json": json.dumps(manifest).encode()}

    assert "manifest.json was edited" in refusal(rewritten(path, tmp_path, change))


@pytest.mark.parametrize(("key", "value", "told"), [("schema", 9, "schema 9"), ("platform", "metal", "for metal")])
def test_another_schema_or_platform_is_refused(path, tmp_path, key, value, told):
    def change(parts):
        return {**parts, "manifest.json": json.dumps(json.loads(parts["manifest.json"]) | {key: value}).encode()}

    assert told in refusal(rewritten(path, tmp_path, change))


def test_an_ordinary_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "plain.native", "w") as archive:
        archive.writestr("a.txt", "a")
    assert "no manifest" in refusal(tmp_path / "plain.native")


# A file that somebody sealed again: what its hashes cannot tell.


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda one: one.update(capabilities=[]), "no machine code"),
        (lambda one: one.update(capabilities=[7.5]), "has no attribute"),
        (lambda one: one.update(properties=None), "texts by name"),
        (lambda one: one["properties"].update(names=1), "texts by name"),
        (lambda one: one.update(built=[1]), "texts by name"),
    ],
)
def test_a_manifest_of_other_types_is_refused(path, tmp_path, change, told):
    file = sealed(path, tmp_path, "manifest.json", change)
    assert re.match(rf"{file} is damaged .*{told}", refusal(file))


def launch_of(step):
    return launch_of(step["tactics"][0][0]) if "tactics" in step else step


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda one: one.update(arena_bytes=1024), "does not lie in the arena"),
        (lambda one: one.update(arena_bytes=-5), "does not lie in the arena"),
        (lambda one: one["buffers"][5].__setitem__(1, 1 << 40), "does not lie in the arena"),
        (lambda one: one["buffers"][5].__setitem__(1, -256), "does not lie in the arena"),
        (lambda one: one.update(input=9999), "does not lie in it"),
        (lambda one: one["operations"].pop(10), "which no launch has written"),
        (lambda one: launch_of(one["operations"][3]).update(kernel=9999), "other arguments than it takes"),
        (lambda one: launch_of(one["operations"][3]).update(grid=[0, 1, 1]), "a launch of no size"),
        (lambda one: launch_of(one["operations"][3])["reads"].append(9999), "buffers that are not there"),
        (lambda one: launch_of(one["operations"][3])["reads"].append(-1), "buffers that are not there"),
        (lambda one: one.pop("images"), "damaged or of another version"),
    ],
)
def test_a_plan_that_does_not_hold_together_is_refused(path, tmp_path, change, told):
    """Launched, it would read and write memory that is not its own."""
    file = sealed(path, tmp_path, "plan.json", change)
    assert re.match(rf"{file}: .*plan: .*{told}", refusal(file))


def test_a_plan_of_too_many_variants_is_refused(path, tmp_path):
    """Forty operations of two tactics each in one tactic: 2^40 of them."""

    def change(plan):
        first = plan["operations"][0]
        step = launch_of(first)
        tactics = [[step], [{**step, "reads": [*step["reads"], 7]}]]
        first["tactics"] = [[{**first, "name": f"{i}", "tactics": tactics, "default": 0} for i in range(40)]]
        first["default"] = 0

    assert "more than 1000 variants" in refusal(sealed(path, tmp_path, "plan.json", change))


def test_facts_of_a_kernel_that_are_no_numbers_are_refused(path, tmp_path):
    file = sealed(path, tmp_path, "code/7.5.json", lambda facts: facts[0].update(threads="x"))
    assert "of another type" in refusal(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: replace(one, images=one.images[:, :32]),
        lambda one: replace(one, images=one.images.astype(np.float32)),
        lambda one: replace(one, outputs=one.outputs[:, :5]),
        lambda one: replace(one, images=one.images[:0], outputs=one.outputs[:0]),
    ],
)
def test_evidence_of_another_network_is_refused(tmp_path, change):
    write_native(replace(engine(), evidence=change(engine().evidence)), tmp_path / "other.native")
    assert "evidence does not fit the plan" in refusal(tmp_path / "other.native")
