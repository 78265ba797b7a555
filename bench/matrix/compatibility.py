"""What does not go together in a cell, told before anything starts."""

from __future__ import annotations

from pathlib import Path

from bench.data.tasks import RANDOM, Regime
from bench.matrix.cell import Cell
from bench.models.backbones import NO_FLASH
from bench.models.checkpoints import unread


def problems(cell: Cell) -> list[tuple[str, str]]:
    """As (field, message)."""
    found = [
        ("method", cell.method.check(cell.backbone) or _method_problem(cell)),
        ("regularizer", cell.regularizer.check(cell.backbone) or _regularizer_problem(cell)),
        ("batch_size", _batch_problem(cell)),
        ("head", _head_problem(cell)),
        ("backbone", _backbone_problem(cell)),
        ("task", _task_problem(cell)),
        ("regime", _regime_problem(cell)),
        ("landscape", _landscape_problem(cell)),
        ("attention", _attention_problem(cell)),
        ("compile", _compile_problem(cell)),
        ("feature_cache", _feature_cache_problem(cell)),
        ("patience", _patience_problem(cell)),
        ("epochs", _epochs_problem(cell)),
    ]
    return [(field, message) for field, message in found if message is not None]


def _batch_problem(cell: Cell) -> str | None:
    if cell.batch_size >= cell.ranks and cell.batch_size % (cell.ranks * cell.micro) == 0:
        return None
    micro = "" if cell.micro_batch_size is None else f" x micro_batch_size {cell.micro_batch_size}"
    return f"found {cell.batch_size}, expected a multiple of ranks {cell.ranks}{micro}"


def _method_problem(cell: Cell) -> str | None:
    if cell.head.kind in cell.method.heads:
        return None
    return f"{cell.method.kind} trains with the head {' or '.join(cell.method.heads)}, found {cell.head.kind}"


def _regularizer_problem(cell: Cell) -> str | None:
    if not (cell.regularizer.uneven and cell.zero.stage == 3 and cell.ranks > 1):
        return None
    return f"{cell.regularizer.label} makes other numbers of passes on each rank, which ZeRO-3 cannot"


def _feature_cache_problem(cell: Cell) -> str | None:
    if not (cell.feature_cache and cell.lower_dropout):
        return None
    return "found true, expected false with lower_dropout: the lower layers give something else in each pass"


def _head_problem(cell: Cell) -> str | None:
    if not cell.backbone.lm_head and cell.backbone.form != "masked":
        return f"{cell.backbone.name} has a decoder and no LM head: expected a checkpoint with one"
    if cell.backbone.form == "encoder_decoder" and cell.head.kind == "linear" and cell.head.pooling is not None:
        return f"found pooling {cell.head.pooling}, but {cell.backbone.name} answers in its decoder: expected none"
    if cell.backbone.lm_head or cell.head.kind == "linear":
        return None
    return f"found answer_words, but {cell.backbone.name} has no LM head: expected linear"


def _backbone_problem(cell: Cell) -> str | None:
    name = cell.backbone.name
    if cell.cost_only and not cell.backbone.shaped:
        expected = "a name with a shape in `bench list backbones`, or a folder with a config.json"
        return f"found weights random, but {name} has no shape built in: expected {expected}"
    if not cell.cost_only and not cell.backbone.weighted:
        return f"{name}: {unread(Path(cell.backbone.location))}"
    if cell.backbone.pickle is not None and cell.zero.stage == 3:
        return f"{name}: found a pickle under {cell.zero.label}, which reads tensor by tensor: expected safetensors"
    return None


def _task_problem(cell: Cell) -> str | None:
    if cell.cost_only == (cell.task.source == RANDOM.source):
        return None
    expected = f"task {RANDOM.name}" if cell.cost_only else "weights: random"
    return f"found {cell.task.name} with weights {cell.weights}, expected {expected}"


def _regime_problem(cell: Cell) -> str | None:
    if cell.regime.fewglue and not cell.task.fewglue:
        return f"found fewglue, which {cell.task.name} has no examples of: expected another regime"
    if cell.task.source != RANDOM.source or cell.regime == Regime():
        return None
    return f"found {cell.regime.label}, but {cell.task.name} makes the examples that the steps need: expected full"


def _landscape_problem(cell: Cell) -> str | None:
    if cell.landscape is None or not cell.cost_only:
        return None
    return "found a landscape, but weights are random: there is no trained model to look around"


def _attention_problem(cell: Cell) -> str | None:
    if cell.attention != "flash_attention_2":
        return None
    if cell.precision == "fp32":
        return "found flash_attention_2 with precision fp32, expected bf16 or fp16"
    if cell.backbone.model_type in NO_FLASH:
        return f"found flash_attention_2, which {cell.backbone.model_type} does not have"
    return None


def _compile_problem(cell: Cell) -> str | None:
    if cell.compile and cell.zero.stage == 3:
        return f"found true with {cell.zero.label}: what ZeRO-3 does as layers run breaks their graphs, and slows them"
    return None


def _patience_problem(cell: Cell) -> str | None:
    if cell.patience is None or (cell.select == "best_dev" and not cell.cost_only):
        return None
    found = "weights random, which are not evaluated" if cell.cost_only else f"select {cell.select}"
    return f"found {cell.patience} with {found}: expected none, or pretrained weights and select: best_dev"


def _epochs_problem(cell: Cell) -> str | None:
    wrong = f"found {cell.epochs}, but {RANDOM.name} makes the examples that the steps need: expected steps"
    return wrong if cell.epochs is not None and cell.cost_only else None
