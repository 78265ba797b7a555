"""A backbone with a method and a head on it: batch -> logits -> loss. The module a DeepSpeed engine wraps."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from bench.methods.modules.attachment import Attachment
from bench.models.backbones import EMBEDDINGS
from bench.models.forward_passes import ForwardPass, with_text
from bench.models.head_modules import Head
from bench.models.stack import Batch, CachedPrefix, Edit, Stack

SCALE = 2.0**10  # of the loss where fp16 gradients are taken


class TunedModel(nn.Module):
    """Below the method's first trainable depth nothing records a backward.

    What lies there also stays in eval mode during training, so that its output may be cached; `lower_dropout`
    gives it the dropout that LPT's code leaves on.
    """

    def __init__(
        self,
        stack: Stack,
        attachment: Attachment,
        head: Head,
        lower_dropout: bool = False,
        checkpointing: bool = False,
        own: Collection[int] = (),
    ):
        """`own`: the `id` of each parameter that the stack had before the method came."""
        super().__init__()
        stack.checkpointing = checkpointing
        self.stack, self.edits, self.head = stack, nn.ModuleList(attachment.edits), head
        self.shared = nn.ModuleList(attachment.shared)
        self.first_trainable_depth = attachment.first_trainable_depth
        self.together = tuple(attachment.together)  # a tuple: they are parts of the stack already
        self.lower_dropout = lower_dropout
        self.of_backbone = frozenset(name for name, parameter in self.named_parameters() if id(parameter) in own)
        if not head.reads_vocabulary:  # what is not read would be trained without a gradient
            read = {id(parameter) for _, parameter in stack.parameters_without_lm_head()}
            for parameter in stack.parameters():
                parameter.requires_grad_(parameter.requires_grad and id(parameter) in read)

    @property
    def dtype(self) -> torch.dtype:
        return self.stack.word_embeddings.weight.dtype

    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def train(self, mode: bool = True) -> TunedModel:
        super().train(mode)
        if mode and not self.lower_dropout:
            for module in self.stack.lower_part(self.first_trainable_depth):
                module.eval()
        return self

    @contextlib.contextmanager
    def evaluating(self) -> Generator[None, None, None]:
        """Eval mode for a while."""
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    def logits(
        self,
        batch: Batch,
        before: Iterable[Edit] = (),
        gradient_from: int | None = None,
        below: CachedPrefix | None = None,
    ) -> Tensor:
        """`before`: edits that act ahead of the method's own at the same depth.

        The backward goes down to `gradient_from`; None: to the method's first trainable depth. `below`: what is
        known of the batch, which is not computed again.
        """
        lowest = self.first_trainable_depth if gradient_from is None else gradient_from
        position = self.head.position(self.stack, batch)
        stream = self.stack.run(batch, [*before, *self.edits], lowest, below, position)
        return self.head.logits(self.stack, stream, batch)

    def prefix_states(self, batch: Batch, depth: int, start: CachedPrefix | None = None) -> CachedPrefix:
        """What enters `depth`, without a backward and before the edits there; `start` is known of it already."""
        start = None if start is None or start.depth > depth else start
        return self.stack.prefix_states(batch, self.edits, depth, start, self.head.position(self.stack, batch))

    def shared_prefix(self, batch: Batch, depth: int, start: CachedPrefix | None = None) -> CachedPrefix | None:
        """What all passes over `batch` that differ at `depth` or above have in common; None where that is nothing.

        `start`: what is known of the batch already.
        """
        depth = min(depth, self.first_trainable_depth)
        return None if depth == EMBEDDINGS or self.lower_dropout else self.prefix_states(batch, depth, start)

    def gradient(self, batch: Batch, below: CachedPrefix, text: Tensor) -> Tensor:
        """[B, T, H]: of each example's own loss with respect to `text`, which enters the depth of `below`.

        In fp16 by a scaled loss, for what would be 0 without, and in fp32.
        """
        text = text.detach().requires_grad_(True)
        start = below._replace(stream=with_text(below.stream, text))
        logits = self.logits(batch, gradient_from=below.depth, below=start)
        half = text.dtype == torch.float16
        (gradient,) = torch.autograd.grad(self.loss(logits, batch, reduction="sum") * (SCALE if half else 1), text)
        return gradient.float() / SCALE if half else gradient

    def loss(self, logits: Tensor, batch: Batch, reduction: Literal["mean", "sum", "none"] = "mean") -> Tensor:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # not narrower than it is
        return nn.functional.cross_entropy(logits, self.head.targets(batch), reduction=reduction)

    def forward(self, shown: ForwardPass) -> tuple[Tensor, Tensor]:
        """The loss trained on, and that of the first view alone, which is the clean one if there is one; detached."""
        logits = self.logits(shown.batch, [shown.edit], shown.gradient_from, shown.repeated_prefix).split(shown.rows)
        losses = [
            self.loss(own, view.batch) if view.loss == "cross_entropy" else symmetric_kl(own, logits[0])
            for view, own in zip(shown.views, logits, strict=True)
        ]
        total = sum(view.weight * loss for view, loss in zip(shown.views, losses, strict=True))
        assert isinstance(total, Tensor)
        return total, losses[0].detach()


def symmetric_kl(one: Tensor, other: Tensor) -> Tensor:
    """KL(one || other) + KL(other || one) of [B, C] logits, the mean over examples; at least float32 inside."""
    wide = torch.promote_types(one.dtype, torch.float32)
    p, q = (torch.log_softmax(logits.to(wide), -1) for logits in (one, other))
    return ((p.exp() - q.exp()) * (p - q)).sum(-1).mean()
