"""Called on warm ranks by test_partitioned.py: backbones load partitioned under ZeRO-3, and are what an ordinary load
gives. Every function takes the folder of the checkpoints."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tiny_models import batch_for, tiny
from transformers import LlamaForCausalLM
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from bench.matrix.cell import Cell
from bench.matrix.field_parsers import parse_zero
from bench.methods import METHODS
from bench.methods.tuned_model import TunedModel
from bench.models.backbones import parse
from bench.models.forward_passes import BatchView, ForwardPass
from bench.models.heads import AnswerWords, Linear
from bench.models.stack import Stack
from bench.models.stack.families import load
from bench.models.stack.shaped import load_random
from bench.models.vocabulary import Vocabulary
from bench.profiler.live_tensors import LiveTensors, all_live_tensors, storages
from bench.regularizers.none import NoRegularizer
from bench.training.engine import DTYPES, LINEAR, Engine, Partitioning, World, gathered, size

CPU = torch.device("cpu")
THRESHOLD, MAPPED, USUAL = -3, 2**16, 2**17  # of malloc: M_MMAP_THRESHOLD, and its value here and elsewhere

LORA = {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}}
FULL = {"kind": "full", "recipe": {"learning_rate": 1e-3, "weight_decay": 50, "warmup": 0}}
PROMPT = {"kind": "prompt_tuning", "length": 3}
# family -> what is trained on it; Conv1D of GPT-2 keeps its weights transposed
TRAINED = {
    "bert": (LORA, "bf16"),
    "roberta": (PROMPT, "bf16"),
    "gpt2": (FULL, "bf16"),
    "llama": (FULL, "fp32"),
}
# what zero.Init replaces while it builds
PATCHED = {
    "Linear.__init__": lambda: torch.nn.Linear.__init__,
    "LlamaForCausalLM.__init__": lambda: LlamaForCausalLM.__init__,
    "apply": lambda: torch.nn.Module.apply,
    "empty": lambda: torch.empty,
    "tensor": lambda: torch.tensor,
}


def cell_of(folder: Path, zero: str, precision: str = "fp32", method: dict[str, Any] = FULL) -> Cell:
    return Cell.model_construct(
        backbone=parse({"path": str(folder)}, "backbone", []),
        method=METHODS[method["kind"]].model_validate(method),
        regularizer=NoRegularizer(),
        zero=parse_zero(zero, "zero", []),
        ranks=2,
        batch_size=6,
        precision=precision,
    )


def loaded(cell: Cell) -> Stack:
    return load(cell.backbone, cell.backbone.location, Partitioning.of(cell))


@contextmanager
def unchanged() -> Iterator[None]:
    """What zero.Init and a ZeRO-3 engine replace in the process is put back."""
    before = {name: read() for name, read in PATCHED.items()}
    yield
    assert {name: read() for name, read in PATCHED.items()} == before
    assert torch.nn.functional.linear is LINEAR and not is_deepspeed_zero3_enabled()


@contextmanager
def resident() -> Iterator[None]:
    """What a tensor frees leaves the resident memory of the process, and its peak is counted from here."""
    libc = ctypes.CDLL(None)
    libc.mallopt(THRESHOLD, MAPPED)
    gc.collect()
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    try:
        yield
    finally:
        libc.mallopt(THRESHOLD, USUAL)


def peak() -> int:
    """Bytes of resident memory at their highest."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def check_memory(world: World, folder: str) -> dict[str, float]:
    """Neither live tensors nor the process hold more than the share, and the copies that one tensor passes through."""
    loaded(cell_of(Path(folder) / "llama", "zero3"))  # code and buffers that stay
    with resident(), unchanged():
        ignored, before = list(storages(all_live_tensors(), CPU)), psutil.Process().memory_info().rss
        with LiveTensors(CPU, ignored=ignored) as tensors:
            stack = loaded(cell_of(Path(folder) / "large", "zero3"))
        grown = peak() - before
        parameters = list(stack.parameters())
        whole, largest = 4 * sum(map(size, parameters)), 4 * max(map(size, parameters))
        for name, parameter in stack.named_parameters():
            share = -(-size(parameter) // world.size)
            assert parameter.numel() == 0 and parameter.ds_tensor.numel() == share, name  # type: ignore[attr-defined]
            assert not parameter.requires_grad, name
        assert 0.95 * whole / 2 < tensors.peak < whole / 2 + 4 * largest < 0.7 * whole, (tensors.peak, whole)
        assert 0.95 * whole / 2 < grown < 0.75 * whole, (grown, whole)
        copies = [torch.ones(size(parameter)) for parameter in parameters]  # the measure sees a whole model
        assert peak() - before > whole * 1.4
        del copies
        torch.nn.functional.linear = LINEAR
    return {"whole": whole, "tensors": tensors.peak, "resident": grown}


def check_equal(world: World, folder: str, name: str, precision: str) -> None:
    """Every weight and buffer of a partitioned load is that of an ordinary one, and what is tied there is here."""
    with unchanged():
        compare(Path(folder) / name, precision)


def compare(folder: Path, precision: str) -> None:
    plain, stack = loaded(cell_of(folder, "zero2")), loaded(cell_of(folder, "zero3", precision))
    expected, found = named(plain), named(stack)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        with gathered(found[name]):
            same = torch.equal(tensor.to(DTYPES[precision]), found[name])
        assert same, (folder.name, name)
    first = [{id(t): name for name, t in reversed(tensors.items())} for tensors in (expected, found)]
    assert sorted(first[0].values()) == sorted(first[1].values()), (folder.name, "tied")
    buffers = dict(stack.named_buffers())
    for name, tensor in plain.named_buffers():
        assert torch.equal(tensor, buffers[name]) and tensor.dtype == buffers[name].dtype, (folder.name, name)
    assert not stack.training
    torch.nn.functional.linear = LINEAR


def check_random(world: World, folder: str, family: str) -> None:
    """Random weights under ZeRO-3: the same names and ties as an ordinary start, of the same sizes, on every rank."""
    with unchanged():
        draw(Path(folder) / family, family, world)


def draw(folder: Path, family: str, world: World) -> None:
    cell = cell_of(folder, "zero3", "bf16")
    partitioning = Partitioning.of(cell)
    stack = load_random(cell.backbone, torch.float32, torch.device("cpu"), 7, partitioning)
    again = load_random(cell.backbone, torch.float32, torch.device("cpu"), 7, partitioning)
    plain = load_random(cell.backbone, torch.bfloat16, torch.device("cpu"), 7)
    expected, found, same = named(plain), named(stack), named(again)
    assert expected.keys() == found.keys()
    assert sum(map(size, stack.parameters())) == sum(p.numel() for p in plain.parameters())
    for name, start in expected.items():
        assert found[name].dtype == start.dtype == torch.bfloat16
        with gathered(found[name]), gathered(same[name]):
            spread = found[name].float().std(unbiased=False).item()
            assert torch.equal(found[name], same[name]), (family, name)
            sums = world.gather(found[name].double().sum().item())
            mean = found[name].float().mean().item()
        wanted = start.float().std(unbiased=False).item()
        # what is drawn: its deviation to four of its own standard errors; what is not: equal
        assert abs(spread - wanted) <= 4 * wanted * start.numel() ** -0.5, (family, name, spread, wanted)
        assert wanted > 0 or mean == start.float().mean().item(), (family, name)
        assert len(set(sums)) == 1, (family, name)
    torch.nn.functional.linear = LINEAR


def named(stack: Stack) -> dict[str, torch.nn.Parameter]:
    return dict(stack.named_parameters(remove_duplicate=False))


def check_trained(world: World, folder: str, family: str) -> None:
    """From the same seed the same start, logits and losses as under ZeRO-2."""
    method, precision = TRAINED[family]
    with unchanged():
        train(Path(folder) / family, method, precision, world)


def train(folder: Path, method: dict[str, Any], precision: str, world: World) -> None:
    plain, partitioned = (outcome(cell_of(folder, zero, precision, method), world) for zero in ("zero2", "zero3"))
    assert plain["state"].keys() == partitioned["state"].keys()
    for name, start in plain.pop("state").items():
        assert torch.equal(start, partitioned["state"][name]), (folder.name, method, name)
    for name, tensor in plain.items():
        bound = 1e-2 if precision == "bf16" and name != "logits" else 1e-4  # ZeRO-3 rounds gradients otherwise
        torch.testing.assert_close(partitioned[name], tensor, rtol=0, atol=bound)


def outcome(cell: Cell, world: World) -> dict[str, Any]:
    partitioning, stack = Partitioning.of(cell), loaded(cell)
    total = sum(map(size, stack.parameters()))
    torch.manual_seed(5)
    with partitioning.attaching() if partitioning else nullcontext():
        attachment = cell.method.attach(stack, Vocabulary(classes=[[7], [8]], ordinary=[5, 6], pad=0))
    head = Linear() if cell.method.kind == "prompt_tuning" else AnswerWords()
    engine = Engine(TunedModel(stack, attachment, head.build(stack, [7, 8])), cell, world)
    found = {"state": engine.state(), "total": torch.tensor(total)}
    batch = batch_for(tiny(cell.backbone.model_type))
    with torch.no_grad(), engine.tuned.evaluating():
        found["logits"] = engine.tuned.logits(batch).clone()
    found["losses"] = torch.stack([engine.step([ForwardPass((BatchView(batch),))]) for _ in range(2)])
    matrices = [value.double().norm() for value in engine.state().values() if value.dim() > 1]
    found["decayed"] = torch.tensor(matrices).norm().log()  # 0.1 more without the decay of FULL
    engine.close()
    return found


def check_errors(world: World, folder: str) -> None:
    with unchanged():
        for zero in ("zero2", "zero3"):
            with pytest.raises(ValueError, match=r"lacking lacks transformer\.h\.1\.attn\.c_attn\.weight$"):
                loaded(cell_of(Path(folder) / "lacking", zero))
            with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
                loaded(cell_of(Path(folder) / "misshapen", zero))
        torch.nn.functional.linear = LINEAR
