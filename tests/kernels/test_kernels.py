"""Every form of every kernel against its reference and float64, on memory full of NaN."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from pairs import FULL, tiered
from places import HELPERS

from bench.cli import kernels as kernels_command
from bench.core.settings import InputError
from bench.kernels import checks, forms, native, swap, timing
from bench.kernels.ascent import length
from bench.kernels.checks import MASKS, Case, Shape, check, check_ascent, check_noise, check_swap
from bench.kernels.dispatch import Kernels, resolve
from bench.kernels.forms import FORMS

CPU = torch.device("cpu")
GPU = torch.device("cuda")
HAS_GPU = torch.cuda.is_available()
LARGEST: Shape = (8, 128, 1024)
# in its interpreter triton takes an example in pieces only where it is longer than 16 * BLOCK * BLOCKS = 131,072
SHAPES: list[Shape] = [(1, 1, 1), (2, 7, 33), (3, 5, 128), (2, 64, 1000), (1, 67, 4001), LARGEST]
LONG = [(2, 64, 1000), LARGEST]  # 5 and 20 seconds in the interpreter
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def table(forms: tuple[str, ...], dtypes: list[torch.dtype]) -> list[Any]:
    """Rows of form, device and dtype. On a CPU triton runs in its interpreter, which cuts bfloat16 off."""
    rows: list[Any] = []
    for form in forms:
        for dtype in dtypes:
            if form != "triton" or (not HAS_GPU and dtype != torch.bfloat16):
                rows.append(pytest.param(form, CPU, dtype, id=f"{form}-{dtype}"))
            if form != "compiled":
                rows.append(pytest.param(form, GPU, dtype, id=f"{form}-gpu-{dtype}", marks=pytest.mark.gpu))
    return rows


EVERY = pytest.mark.parametrize(("form", "device", "dtype"), table(FORMS, DTYPES))
EVERY_FP32 = pytest.mark.parametrize(("form", "device", "dtype"), table(FORMS, [torch.float32]))


def shaped() -> list[Any]:
    """Rows of form, device, dtype and shape; on a GPU, where they take no time, all in the default tier."""
    rows: list[Any] = []
    for one, shape in product(table(FORMS, DTYPES), SHAPES):
        long = [FULL] if one.values[:2] == ("triton", CPU) and shape in LONG else []
        name = "x".join(map(str, shape))
        rows.append(pytest.param(*one.values, shape, marks=[*one.marks, *long], id=f"{name}-{one.id}"))
    here = [row for row in rows if row.values[1] == CPU]
    return tiered("form, device, dtype, shape", here) + [row for row in rows if row.values[1] == GPU]


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not written is NaN, or for integers far from any index."""

    def poisoned(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def empty(*arguments: Any, **options: Any) -> torch.Tensor:
            made = make(*arguments, **options)
            return made.fill_(torch.nan if made.is_floating_point() else -(2**62))

        return empty

    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, poisoned(getattr(torch, name)))


@pytest.fixture
def kernels(form: str, device: torch.device) -> Iterator[Kernels]:
    if device.type == "cuda" and not HAS_GPU:
        pytest.skip("no GPU")
    if form == "triton" and device.type == "cpu":
        pytest.importorskip("triton")
    yield resolve(form, device)


@pytest.mark.parametrize(("form", "device", "dtype", "shape"), shaped())
def test_forms_agree(kernels: Kernels, shape: Shape, dtype: torch.dtype, device: torch.device) -> None:
    made = check(kernels, shape, dtype, device)
    assert all(one.right for one in made), [str(one) for one in made if not one.right]


@EVERY_FP32
@pytest.mark.parametrize("mask", MASKS)
def test_forms_agree_under_every_mask(kernels: Kernels, mask: str, dtype: torch.dtype, device: torch.device) -> None:
    made = check(kernels, (2, 7, 33), dtype, device, mask)
    assert all(one.right for one in made), [str(one) for one in made if not one.right]


def test_checks_see_what_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "call", lambda *arguments: None)
    kernels, case = resolve("compiled", CPU), Case.make((2, 7, 33), torch.float32, CPU)
    found = check_noise(kernels, case) + check_ascent(kernels, case)
    assert not any(error <= bound for _, error, bound in found), found
    with pytest.raises(IndexError):
        check_swap(kernels, case)


@pytest.mark.full
def test_triton_kernels_compile_without_fused_multiply_add(tmp_path: Path) -> None:
    pytest.importorskip("triton", minversion="3.2")  # before, its compiler is called in another way
    variables = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(HELPERS / "compile_script.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {name for name, _ in lines} == {"noise", "norms", "step", "swap"} and {n for _, n in lines} == {"0"}, lines


@EVERY_FP32
def test_noise_depends_on_key_and_place_alone(kernels: Kernels, device: torch.device, dtype: torch.dtype) -> None:
    case = Case.make((3, 9, 33), dtype, device, "all")
    text = torch.zeros_like(case.text)
    whole = kernels.noise(text, case.mask, 0.5, case.keys)
    alone = kernels.noise(text[2:, :4], case.mask[2:, :4], 0.5, case.keys[2:])
    assert torch.equal(alone, whole[2:, :4])
    assert not torch.equal(whole[0], whole[1])
    # the standard error of a standard deviation of n values is sigma / sqrt(2 n)
    assert abs(whole.std().item() - 0.5) < 5 * 0.5 / (2 * whole.numel()) ** 0.5


@pytest.mark.gpu
def test_noise_is_the_same_on_a_gpu() -> None:
    if not HAS_GPU:
        pytest.skip("no GPU")
    here, there = (Case.make((8, 128, 1024), torch.float32, device) for device in (CPU, GPU))
    expected = resolve("reference", CPU).noise(here.text, here.mask, 0.1, here.keys)
    for form in ("reference", "triton"):
        found = resolve(form, GPU).noise(there.text, there.mask, 0.1, there.keys)
        assert torch.equal(found.cpu(), expected), form


@EVERY
def test_noise_leaves_other_tokens_and_passes_the_gradient(
    kernels: Kernels, device: torch.device, dtype: torch.dtype
) -> None:
    case = Case.make((2, 7, 33), dtype, device)
    text = case.text.clone().requires_grad_()
    noised = kernels.noise(text, case.mask, 0.1, case.keys)
    assert noised.dtype == dtype and torch.equal(noised[~case.mask], text[~case.mask])
    (gradient,) = torch.autograd.grad(noised, text, case.gradient)
    assert torch.equal(gradient, case.gradient)
    with torch.inference_mode():
        assert torch.equal(kernels.noise(case.text, case.mask, 0.1, case.keys), noised)


@EVERY_FP32
@pytest.mark.parametrize(("norm", "radius"), [("l2", 0.3), ("linf", 0.01)])
def test_ascent_stays_in_its_ball_and_raises_a_convex_loss(
    kernels: Kernels, device: torch.device, dtype: torch.dtype, norm: Any, radius: float
) -> None:
    case = Case.make((3, 9, 33), dtype, device, "an example out")
    delta = case.delta * 0
    target = case.text + 1
    losses = []
    for _ in range(4):
        away = case.text + delta - target
        losses.append(away.square().sum((1, 2)))
        delta, shifted = kernels.ascent(delta, 2 * away, case.mask, radius / 2, radius, norm, case.text)
        assert (length(delta, norm) <= radius * (1 + 1e-5)).all(), length(delta, norm)
        assert not delta[~case.mask].any() and shifted is not None
        assert torch.equal(shifted[~case.mask], case.text[~case.mask])
    eligible = case.mask.any(1)
    assert all((after > before)[eligible].all() for before, after in zip(losses[:2], losses[1:3], strict=True)), losses


@EVERY
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_ascent_without_gradient_moves_nothing(
    kernels: Kernels, device: torch.device, dtype: torch.dtype, norm: Any
) -> None:
    case = Case.make((2, 7, 33), dtype, device)
    delta = case.delta * case.mask[..., None]
    after, _ = kernels.ascent(delta, 0 * delta, case.mask, 0.1, 0.5, norm)
    assert torch.equal(after, delta)


@EVERY_FP32
def test_ascent_is_deterministic_and_reads_no_masked_token(
    kernels: Kernels, device: torch.device, dtype: torch.dtype
) -> None:
    case = Case.make((2, 64, 1000), dtype, device)
    out = ~case.mask[..., None]
    step: tuple[Any, ...] = (case.mask, 0.1, 0.2, "l2")
    once, _ = kernels.ascent(case.delta, case.gradient, *step)
    nan = torch.nan
    again, _ = kernels.ascent(case.delta.masked_fill(out, nan), case.gradient.masked_fill(out, nan), *step)
    assert torch.equal(once, again)


@EVERY_FP32
def test_swap_takes_the_nearest_of_equals_and_what_is_allowed_only(
    kernels: Kernels, device: torch.device, dtype: torch.dtype
) -> None:
    embeddings = torch.tensor([[1.0, 0], [1, 1], [1, 1], [0, 2], [5, 0]], device=device)
    known = swap.nearest(embeddings, torch.tensor([0, 3], device=device), 3, torch.ones(5, device=device) > 0)
    assert known.rows.tolist() == [0, -1, -1, 1, -1]
    assert known.tokens[0, 0] == 4 and sorted(known.tokens[0, 1:].tolist()) == [1, 2]
    ids = torch.tensor([[0, 0, 3, 1]], device=device)
    gradient = torch.tensor([[[0.0, 1], [1, 0], [0, 1], [1, 1]]], device=device)
    token, gain = kernels.swap(gradient, ids, ids >= 0, embeddings, known, 0.5)
    # the second word of two equals loses; only (1, 1) is near (0, 2); the last token has no row
    assert token.tolist() == [[known.tokens[0, 1], 4, known.tokens[1, 0], 1]], token
    assert gain.tolist() == [[1, 4, -1, -torch.inf]], gain
    token, gain = kernels.swap(gradient, ids, ids < 0, embeddings, known, 0.5)
    assert torch.equal(token, ids) and (gain == -torch.inf).all()


def test_nearest_is_never_the_token_itself_nor_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "CHUNK", 100)  # several chunks
    embeddings = torch.randn(40, 8, generator=torch.Generator().manual_seed(4))
    allowed = torch.arange(40) < 4
    tokens = torch.tensor([2, 30, 7])
    found = swap.nearest(embeddings, tokens, 4, allowed)
    cosine = torch.nn.functional.cosine_similarity(embeddings[tokens][:, None], embeddings[None], dim=-1)
    cosine[:, 4:] = -torch.inf
    cosine[0, 2] = -torch.inf
    expected = cosine.sort(descending=True)
    assert torch.equal(found.tokens[1:], expected.indices[1:, :4])
    assert found.tokens[0].tolist() == [*expected.indices[0, :3].tolist(), 2] and found.cosines[0, 3] == -torch.inf
    assert torch.allclose(found.cosines[1:], expected.values[1:, :4], atol=1e-6)


def test_what_cannot_run_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(forms, "compiler", lambda: None)
    for form, device, words in (
        ("fast", CPU, "expected one of auto, compiled, reference, triton"),
        ("compiled", GPU, "found device cuda, expected cpu"),
        ("compiled", CPU, "found no C++ compiler"),
        ("triton", CPU, "expected cuda" if importlib.util.find_spec("triton") else "not installed"),
    ):
        with pytest.raises(InputError, match="^kernels: [a-z]+: ") as error:
            resolve(form, device)
        assert words in str(error.value) and "\n" not in str(error.value), error.value


def test_auto_is_compiled_on_a_cpu_that_has_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("auto", CPU).form == "compiled"
    monkeypatch.setattr(forms, "compiler", lambda: None)
    assert resolve("auto", CPU).form == "reference"


@pytest.mark.full
def test_the_library_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    native.library.__wrapped__()
    (built,) = tmp_path.iterdir()
    before = built.stat()
    native.library.__wrapped__()
    assert built.stat() == before


def test_a_compiler_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", native.library.__wrapped__)
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(InputError, match="^kernels: compiled: false could not build or load it: "):
        resolve("compiled", CPU)
    assert resolve("auto", CPU).form == "reference"


def test_bench_kernels_checks_times_and_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels_command, "CHECKED", ((2, 7, 33),))
    monkeypatch.setattr(kernels_command, "TIMED", {"cpu": ((2, 7, 36),)})
    monkeypatch.setattr(timing, "BEYOND_CACHE", {"cpu": 2**16})
    assert kernels_command.command(tmp_path, "cpu", as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "kernels" / "cpu.json").read_text())
    assert told["checks"]["right"] > 0 and not told["checks"]["wrong"] and told["environment"]["versions"]["torch"]
    measured = {(one["operation"], one["form"]) for one in told["timings"]}
    assert measured >= {("noise gaussian", "eager")} | {(o, f) for o in ("ascent l2", "swap") for f in FORMS[:2]}, forms
    assert all(one["milliseconds"] > 0 for one in told["timings"])

    monkeypatch.setattr(native, "call", lambda *arguments: None)
    monkeypatch.setattr(checks, "check_swap", lambda kernels, case: [])
    assert kernels_command.command(tmp_path, "cpu", as_json=False) == 1
    assert "wrong: compiled noise gaussian 2x7x33" in capsys.readouterr().out
    assert json.loads((tmp_path / "kernels" / "cpu.json").read_text())["timings"] == []
    with pytest.raises(InputError, match="^kernels: device: found 'abacus', expected c"):
        kernels_command.command(tmp_path, "abacus", as_json=False)
