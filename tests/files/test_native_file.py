"""The file of a native engine: what is written comes back, and what is not whole is refused in one line."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from native_engines import engine
from yoloproof.errors import YoloproofError
from yoloproof.files.native import read_native, write_native


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
