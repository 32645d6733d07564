"""Kernels → machine code: compiled for real, without a GPU, and kept by what each depends on."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from native_engines import recorded
from yoloproof.artifact.native import compiling
from yoloproof.artifact.native.build import without_spills
from yoloproof.artifact.native.compiling import compile_kernels, kernel_digest
from yoloproof.errors import YoloproofError
from yoloproof.files.native import CompiledKernel, KernelFacts
from yoloproof.files.plan import Launch, chosen_launches
from yoloproof.runtime.tactics import measured_choice

HOPPER = (9, 0)


@pytest.fixture
def turing_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        toolchain = compiling.toolchain_for((7, 5))
    except YoloproofError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(compiling, "toolchain_for", lambda _: toolchain)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_kernels_compile_once_and_say_whether_they_use_tensor_cores(cache, monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = {kernel.name: kernel for kernel in recorded("yolov13n").plan.kernels}
    kernels = [by_name["thin_conv_kernel"], by_name["pool_kernel"]]
    thin, pool = compile_kernels(kernels, HOPPER, processes=1)
    assert thin is not None
    assert pool is not None
    assert thin.facts.tensor_cores > 0
    assert pool.facts.tensor_cores == 0
    assert 0 < thin.facts.registers <= 255
    monkeypatch.setattr(compiling, "_run_worker", lambda *_: pytest.fail("compiled again"))
    assert compile_kernels(kernels, HOPPER) == [thin, pool]


def test_turings_code_is_the_same_wherever_a_kernel_stands_in_its_process(turing_triton, cache) -> None:
    kernels = recorded("yolov13n").plan.kernels
    first = next(one for one in kernels if one.name == "conv_kernel" and dict(one.constants)["S"] == 2)
    (alone,) = compile_kernels([first], (7, 5), processes=1)
    shutil.rmtree(cache / "yoloproof/kernels")
    other = next(one for one in kernels if one.name == "pool_kernel")
    assert compile_kernels([other, first], (7, 5), processes=1)[1] == alone


def test_a_kernels_code_is_kept_by_its_own_source_and_by_what_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("conv_kernel", "thin_conv_kernel", "pool_kernel")
    before = {name: kernel_digest(name) for name in names}
    definitions = compiling._definitions()

    def changed(edited: str) -> set[str]:
        compiling.kernel_digest.cache_clear()
        monkeypatch.setattr(compiling, "_definitions", lambda: {**definitions, edited: definitions[edited] + " "})
        return {name for name in names if kernel_digest(name) != before[name]}

    assert changed("conv_kernel") == {"conv_kernel"}
    assert changed("thin_operands") == {"thin_conv_kernel"}
    assert changed("summed") == {"conv_kernel", "thin_conv_kernel"}
    assert changed("begin") == set(names)
    assert changed("gelu") == set()
    compiling.kernel_digest.cache_clear()


def test_overlaps_are_computed_without_fused_multiplications(cache) -> None:
    """Whose rounding would decide otherwise than NumPy at the limit, and then everything behind it."""
    (cover,) = [k for k in recorded("yolov13n", 1, True).plan.kernels if k.name == "cover_kernel"]
    fused = replace(cover, constants=tuple(one for one in cover.constants if one[0] != "enable_fp_fusion"))
    exact, other = compile_kernels([cover, fused], HOPPER, processes=1)
    assert exact is not None
    assert other is not None
    assert b"fma." not in exact.ptx
    assert b"mul.rn.f32" in exact.ptx  # a driver that compiles it may not fuse them, either
    assert b"fma." in other.ptx


def test_kernels_that_spill_go_where_an_operation_has_another_tactic() -> None:
    plan = recorded("yolov13n").plan

    def with_spills(spilling: set[int]) -> tuple[CompiledKernel | None, ...]:
        return without_spills(
            plan,
            [
                CompiledKernel(KernelFacts("kernel", 128, 0, 9, 255, 64 * (index in spilling), 8, "3.2.0"), b"", b"")
                for index in range(len(plan.kernels))
            ],
        )

    several = next(one for one in plan.operations if len(one.tactics) > 2 and isinstance(one.tactics[0][0], Launch))
    used = [tactic[0].kernel for tactic in several.tactics if isinstance(tactic[0], Launch)]
    assert None not in with_spills(set())
    kept = with_spills({used[several.default]})
    assert [i for i, one in enumerate(kept) if one is None] == [used[several.default]]
    choice = measured_choice(plan.operations, lambda launch: kept[launch.kernel] is not None, None)
    assert choice[several.name] != several.default
    # every tactic spills: they all stay, since the operation has to run
    assert None not in [with_spills(set(used))[index] for index in used]


def test_no_operation_is_left_without_a_tactic_where_everything_spills() -> None:
    plan = recorded("yolov13n").plan
    facts = KernelFacts("kernel", 128, 0, 9, 255, 64, 8, "3.2.0")
    kept = without_spills(plan, [CompiledKernel(facts, b"", b"") for _ in plan.kernels])
    choice = measured_choice(plan.operations, lambda launch: kept[launch.kernel] is not None, None)
    assert all(kept[launch.kernel] for launch in chosen_launches(plan.operations, choice))
