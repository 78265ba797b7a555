"""One probe on every rank: the gradients of the engine beside those of plain PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from bench.checks.preflight.probes import MICRO, reference_name
from bench.checks.preflight.verdicts import UNCHECKED, Measured, Verdict, compare, same
from bench.core.seeds import stream_seed
from bench.matrix.cell import Cell
from bench.methods.tuned_model import TunedModel
from bench.models.forward_passes import ForwardPass
from bench.models.stack import Batch
from bench.models.stack.tiny import FIRST_WORD, VOCABULARY, tiny
from bench.models.vocabulary import Vocabulary
from bench.profiler import PhaseClock
from bench.regularizers.perturbers import Rewriting, Run, perturber_of
from bench.training.engine import DTYPES, Engine, World
from bench.training.setup import assemble

PAD = 1
SHORTEST, LONGEST = 5, 12  # tokens of an example
NUDGE = 0.05  # added to every trainable: zeros at the start (LoRA's B) would hide the gradients of what they multiply
LOSS_SCALE = 2.0**8  # of fp16 in plain PyTorch, where small gradients would be zero


@dataclass(frozen=True)
class Reference:
    """Plain PyTorch on one process, in the cell's precision and in float64."""

    name: str
    plain: Measured
    exact: Measured


def check(
    probe: Cell, world: World, clock: PhaseClock, known: Reference | None
) -> tuple[Verdict | None, Reference | None]:
    """The verdict and the reference, on rank 0; None on the others. `known` is used where it is the same."""
    with clock.phase(UNCHECKED):
        tuned = model(probe)
    with clock.phase("reference"):
        reference = known
        if world.rank == 0 and (known is None or known.name != reference_name(probe)):
            reference = refer(tuned, probe, world.device)
    with clock.phase("setup"):
        engine = Engine(tuned, probe, world)
    try:
        with clock.phase("gradients"):
            engine.train()
            loss, gradients = engine.gradients(passes(engine.tuned, probe, world.rank, world.device))
            measured = Measured(world.mean(loss), gradients)
    finally:
        engine.close()
    if reference is None or world.rank != 0:
        return None, None
    return compare(measured, reference.plain, reference.exact, DTYPES[probe.precision], probe.ranks), reference


def model(probe: Cell) -> TunedModel:
    """The same on every rank."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(probe.seed, "preflight"))
        stack = tiny(probe.backbone.model_type, probe.backbone.layers, probe.backbone.lm_head, probe.attention)
        answers = list(range(FIRST_WORD, FIRST_WORD + len(probe.task.labels)))
        tuned = assemble(probe, stack, words(probe), answers)
        with torch.no_grad():
            for parameter in tuned.trainable().values():
                parameter.add_(torch.randn_like(parameter), alpha=NUDGE)
    for module in tuned.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # a method's own: ranks draw apart
    return tuned


def words(probe: Cell) -> Vocabulary:
    """Of a tokenizer with one token before the words, which masks."""
    classes = [[FIRST_WORD + label] for label in range(len(probe.task.labels))]
    return Vocabulary(classes, ordinary=range(FIRST_WORD, VOCABULARY), pad=PAD, mask=FIRST_WORD - 1)


def batches(probe: Cell, rank: int, device: torch.device) -> Iterator[Batch]:
    """The random micro-batches of one rank."""
    for number in range(probe.accumulation):
        generator = torch.Generator().manual_seed(stream_seed(probe.seed, f"preflight {rank} {number}"))
        yield _batch(len(probe.task.labels), generator, MICRO * number).to(device)


def passes(tuned: TunedModel, probe: Cell, rank: int, device: torch.device) -> Iterator[ForwardPass]:
    """What one rank trains on."""
    perturber = perturber_of(probe.regularizer, Run(tuned, words(probe), probe.kernels))
    if isinstance(perturber, Rewriting):
        for batch in batches(probe, rank, device):
            perturber.keep(perturber.rewrite(batch))
    for batch in batches(probe, rank, device):
        yield from perturber.passes(batch)


def _batch(classes: int, generator: torch.Generator, first: int) -> Batch:
    def draw(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    lengths = draw(SHORTEST, LONGEST + 1, MICRO)[:, None]
    width = int(lengths.max())
    position = torch.arange(width)[None]
    text = position < lengths
    return Batch(
        ids=draw(FIRST_WORD, VOCABULARY, MICRO, width).masked_fill(~text, PAD),
        text_mask=text,
        perturbable_mask=text & (position > 0) & (position < lengths - 2),
        segments=torch.zeros(MICRO, width, dtype=torch.int64),
        answer=lengths[:, 0] - 1,
        labels=draw(0, classes, MICRO),
        noise_seeds=draw(0, 2**31, MICRO),
        example_ids=torch.arange(first, first + MICRO),
    )


def refer(tuned: TunedModel, probe: Cell, device: torch.device) -> Reference:
    """ValueError where two passes differ: what draws random numbers of its own cannot be compared."""
    own = DTYPES[probe.precision]
    plain, again, exact = (measure(tuned, probe, device, dtype) for dtype in (own, own, torch.float64))
    if not same(plain, again):
        raise ValueError("two passes in plain PyTorch differ: the method draws random numbers of its own")
    return Reference(reference_name(probe), plain, exact)


def measure(tuned: TunedModel, probe: Cell, device: torch.device, dtype: torch.dtype) -> Measured:
    """The global batch in its micro-batches, one rank's after another's; the mean over passes, then over ranks."""
    model = copy.deepcopy(tuned).to(device, dtype).train()
    scale = LOSS_SCALE if dtype == torch.float16 else 1.0
    losses: list[torch.Tensor] = []
    sums: dict[str, torch.Tensor | None] = dict.fromkeys(model.trainable())
    for rank in range(probe.ranks):
        total = torch.zeros((), device=device)
        for shown in passes(model, probe, rank, device):
            loss, _ = model(shown)
            (loss * (scale / probe.accumulation)).backward()
            total = total + loss.detach()
        losses.append(total / probe.accumulation)
        for name, parameter in model.trainable().items():
            gradient, before = parameter.grad, sums[name]
            if gradient is not None:
                sums[name] = gradient if before is None else before + gradient
            parameter.grad = None
    gradients = {name: None if value is None else value / (scale * probe.ranks) for name, value in sums.items()}
    return Measured(torch.stack(losses).mean(), gradients)
