"""Run by the deepspeed launcher: backbones load partitioned under ZeRO-3, and are what an ordinary load gives.

Argument: the folder of the checkpoints, to which it writes what it measured.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from models import batch_for, tiny
from transformers import LlamaForCausalLM
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from bench import toy
from bench.backbones import parse
from bench.cells import Cell
from bench.engine import DTYPES, LINEAR, Engine, Partitioning, World, gathered, size
from bench.fields import parse_zero
from bench.heads import AnswerWords, Linear
from bench.methods import METHODS
from bench.perturb.none import NoRegularizer
from bench.profiler.live import LiveTensors, held, storages
from bench.stack import Stack
from bench.stack.families import load
from bench.stack.shaped import load_random
from bench.tuned import Tuned
from bench.views import Pass, View
from bench.vocabulary import Vocabulary

CPU = torch.device("cpu")

LORA = {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}}
FULL = {"kind": "full", "recipe": {"learning_rate": 1e-3, "weight_decay": 50, "warmup": 0}}
PROMPT = {"kind": "prompt_tuning", "length": 3}
# family -> what is trained on it; Conv1D of GPT-2 keeps its weights transposed
TRAINED = {
    "bert": [(LORA, "bf16")],
    "roberta": [(PROMPT, "bf16")],
    "gpt2": [(FULL, "bf16")],
    "llama": [(FULL, "fp32")],
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


def check_memory(folder: Path, world: World) -> dict[str, float]:
    """Neither live tensors nor the process hold more than the share, and the copies that one tensor passes through."""
    loaded(cell_of(folder / "llama", "zero3"))  # code and buffers that stay
    gc.collect()
    ignored, resident = list(storages(held(), CPU)), psutil.Process().memory_info().rss
    with LiveTensors(CPU, ignored=ignored) as tensors:
        stack = loaded(cell_of(folder / "large", "zero3"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - resident
    parameters = list(stack.parameters())
    whole, largest = 4 * sum(map(size, parameters)), 4 * max(map(size, parameters))
    for name, parameter in stack.named_parameters():
        share = -(-size(parameter) // world.size)
        assert parameter.numel() == 0 and parameter.ds_tensor.numel() == share, name  # type: ignore[attr-defined]
        assert not parameter.requires_grad, name
    assert 0.95 * whole / 2 < tensors.peak < whole / 2 + 4 * largest < 0.7 * whole, (tensors.peak, whole)
    assert 0.95 * whole / 2 < grown < 0.75 * whole, (grown, whole)
    copies = [torch.ones(size(parameter)) for parameter in parameters]  # the measure sees a whole model
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - resident > whole * 1.4
    del copies
    return {"whole": whole, "tensors": tensors.peak, "resident": grown}


def check_equal(folder: Path, precision: str) -> None:
    """Every weight and buffer of a partitioned load is that of an ordinary one, and what is tied there is here."""
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


def check_random(folder: Path, family: str, world: World) -> None:
    """Random weights under ZeRO-3: the same names and ties as an ordinary start, of the same sizes, on every rank."""
    cell = cell_of(folder / family, "zero3", "bf16")
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


def check_trained(folder: Path, method: dict[str, Any], precision: str, world: World) -> None:
    """From the same seed the same start, logits and losses as under ZeRO-2."""
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
    engine = Engine(Tuned(stack, attachment, head.build(stack, [7, 8])), cell, world)
    found = {"state": engine.state(), "total": torch.tensor(total)}
    batch = batch_for(tiny(cell.backbone.model_type))
    with torch.no_grad(), engine.tuned.evaluating():
        found["logits"] = engine.tuned.logits(batch).clone()
    found["losses"] = torch.stack([engine.step([Pass((View(batch),))]) for _ in range(2)])
    matrices = [value.double().norm() for value in engine.state().values() if value.dim() > 1]
    found["decayed"] = torch.tensor(matrices).norm().log()  # 0.1 more without the decay of FULL
    engine.close()
    return found


def check_errors(folder: Path) -> None:
    for zero in ("zero2", "zero3"):
        with pytest.raises(ValueError, match=r"lacking lacks transformer\.h\.1\.attn\.c_attn\.weight$"):
            loaded(cell_of(folder / "lacking", zero))
        with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
            loaded(cell_of(folder / "misshapen", zero))
    torch.nn.functional.linear = LINEAR


def main() -> None:
    folder = Path(sys.argv[-1])
    world = World.join()
    before = {name: read() for name, read in PATCHED.items()}
    measured = world.gather(check_memory(folder, world))
    for name in ("bert", "roberta", "gpt2", "llama", "sharded", "headless", "legacy", "differ"):
        for precision in ("fp32", "bf16") if name in TRAINED else ("fp32",):
            check_equal(folder / name, precision)
    for name in toy.KINDS:
        check_equal(toy.folder(name), "fp32")  # stored in fp16
    for family in ("bert", "roberta", "gpt2", "llama"):
        check_random(folder, family, world)
    check_errors(folder)
    for family, trained in TRAINED.items():
        for method, precision in trained:
            check_trained(folder / family, method, precision, world)
    assert {name: read() for name, read in PATCHED.items()} == before
    assert torch.nn.functional.linear is LINEAR and not is_deepspeed_zero3_enabled()
    if world.rank == 0:
        (folder / "measured.json").write_text(json.dumps(measured))
    world.leave()


if __name__ == "__main__":
    main()
