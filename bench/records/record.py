"""Records: what one cell gave, or how it failed. Written once, atomically, never edited; read without torch.

A Record keeps its cell as plain data beside a few labels, so that boards need neither cells nor methods and
old records stay readable when methods change.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from bench.core.settings import Settings
from bench.records.validation import Amount, Difference, Figure, Share, Size, Text, checked

SCHEMA = 1
Status = Literal[
    "ok",
    "out_of_memory",
    "diverged",
    "timeout",
    "node_lost",
    "unsupported",
    "predicted_out_of_memory",
    "failed",
]


class Labels(Settings):
    """The readable side of a cell: what tables show."""

    backbone: str
    task: str
    regime: str
    method: str
    recipe: str  # where the recipe departs from the method's own; "" where it does not
    regularizer: str
    head: str
    zero: str
    departures: tuple[str, ...] = ()  # from the protocol that the cell follows


class Failure(Settings):
    # load, setup, cache, train, attack, evaluate, save, landscape; start: none was reached, preflight: it was not run
    phase: str
    rank: int | None
    host: str | None
    exception: Text
    step: Size | None = None  # the training step it happened in
    bytes_asked: Size | None = None
    bytes_free: Size | None = None
    inferred_from: str | None = None  # the name of the record that shows it, where the cell itself was not run
    log: tuple[Text, ...] = ()  # the last lines of the log


class Point(Settings):
    """One evaluation on dev during training."""

    step: int
    train_loss: Figure | None  # the clean one, where it is trained on; mean over the steps since the last point
    dev: Share


class Quality(Settings):
    metric: str  # of dev and test: the mean of those it names and, on test, of the parts that test has
    dev: Share  # at the selected step
    test: Share
    scores: dict[str, Share]  # test is the mean of these: by metric and, where there are several, by part of test
    constant: Share | None  # the best that one answer to all of test would score; None: not known
    selected_step: int
    stopped_step: int | None = None  # where training ended for want of a gain on dev; None: it ran to its end
    outcomes: str  # one character per test example in its order: 1 right, 0 wrong
    predicted: str  # one character per test example: the predicted class as a digit of base 36, 0-9 and a-z
    curve: tuple[Point, ...]
    examples: dict[str, Size]  # how many in train, dev, test
    sample: str  # hash of the ids of the train and dev examples and of the data; its list is in cards/
    data: str  # hash of the content of what was read
    origin: str  # where that came from; of the hub with its revision


class Quantiles(Settings):
    p50: Amount
    p90: Amount
    p99: Amount


class Cost(Settings):
    """Of the steps that were done, where training ended before `steps`."""

    steps: Size  # that the schedule is made for: the cell's own, or those of its epochs
    tokens_per_second: Amount | None  # real text tokens over all ranks in the measured window, no padding
    samples_per_second: Amount | None
    step_milliseconds: Quantiles | None  # of the slowest rank
    measured_steps: Size  # steps in the window, after warm-up
    seconds: dict[str, Amount]  # by phase
    trainable_parameters: Size
    total_parameters: Size
    checkpoint_bytes: Size  # of the trainable tensors
    forward_equivalents: Amount | None = (
        None  # of a step, counted: forwards through the backbone; see bench.regularizers
    )
    flops: Amount | None = None  # floating-point operations of a step over all ranks, recomputation included
    mfu: Amount | None = None  # model FLOP/s, without recomputation, as a share of what all devices could
    joules: Amount | None = None  # of a step, over all devices
    data_wait_share: Amount | None = None  # of the measured window: waiting for the next batch
    feature_cache_bytes: Size | None = None  # on disk, of this cell's examples
    feature_cache_built: Size | None = None  # examples that were not in it


# whose a rank's memory is; see bench.profiler.memory
OWNERS = ("parameters", "gradients", "optimizer_state", "communication", "feature_cache", "activations", "other")


class Memory(Settings):
    """One rank in one phase, in bytes."""

    rank: int
    host: str
    phase: str
    peak_allocated_bytes: Size | None  # allocator on a GPU; live tensors in an instrumented step on a CPU
    peak_reserved_bytes: Size | None  # None on a CPU
    rss_bytes: Size | None  # resident set of the process at the end of the phase
    outside_allocator_bytes: Difference | None = None  # device memory of the process that is not the allocator's (NVML)
    owners: dict[str, Difference]  # bytes at the peak of each of OWNERS; they add up to it


class Predicted(Settings):
    """What a dry run gave for the rank that needs most, in bytes."""

    tokens: Size  # of every example trained on
    device: dict[str, dict[str, Size]]  # by phase and owner at its peak: train, evaluate, and setup where that is known
    host: dict[str, Size]  # by owner, in training: what a ZeRO configuration keeps in host memory or on NVMe

    @property
    def peak_bytes(self) -> int:
        """Of the device, in the phase that needs most."""
        return max(sum(owners.values()) for owners in self.device.values())


class Surface(Settings):
    """The mean cross-entropy over the square [-radius, radius]^2 of two directions, the trained cell in its middle."""

    radius: Amount
    # rows along the first direction, from -radius to radius, columns along the second; 6 digits; None: not finite
    loss: tuple[tuple[Figure | None, ...], ...]
    rise: Figure | None  # from the middle to the maximum, per unit of radius
    slope: Figure | None  # in the middle: the length of the gradient in the plane, per unit
    curvature: Figure | None  # in the middle: the largest eigenvalue of the Hessian in the plane, per unit squared

    @property
    def grid(self) -> int:
        """Points along each direction."""
        return len(self.loss)


class Surfaces(Settings):
    """Loss surfaces around the selected weights, in eval mode.

    In the embeddings the slope is exact: the mean over examples of each one's |dZ/da|, `a` being along its gradient.
    The curvature there is made of central differences of gradients, a hundredth of the radius from the middle. In
    weight space both are central differences of the loss on the grid.
    """

    examples: int  # so many of dev
    embeddings: Surface  # along each example's gradient, and orthogonal to it; in L2 of its word embeddings
    weights: Surface | None = None  # along two random directions; in norms of the trained filters (Li et al. 2018)


class Environment(Settings):
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    hosts: tuple[str, ...]
    accelerator: str
    threads: int  # of torch, per rank
    kernels: str | None = None  # the form of what perturbs: reference, compiled or triton
    launcher: str
    alone: bool | None = None  # whether these hosts were kept for the cell


class Record(Settings):
    schema_version: int = SCHEMA
    name: str
    cell: Annotated[dict[str, Any], AfterValidator(checked)]
    labels: Labels
    status: Status
    failure: Failure | None = None
    quality: Quality | None = None
    cost: Cost | None = None
    memory: tuple[Memory, ...] = ()
    landscape: Surfaces | None = None
    predicted: Predicted | None = None
    lost: tuple[Failure, ...] = ()  # runs of the cell before this one that ended with a host, or with no rank to blame
    environment: Environment | None = None
    started: str  # ISO 8601, UTC
    finished: str
