"""A backbone with a method and a head on it: batch -> logits -> loss. The module a DeepSpeed engine wraps."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from bench.heads import Head
from bench.methods import Attachment
from bench.stack import Batch, Edit, Stack, Stream

if TYPE_CHECKING:
    from bench.perturb import View


class Tuned(nn.Module):
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
    ):
        super().__init__()
        stack.checkpointing = checkpointing
        self.stack, self.edits, self.head = stack, attachment.edits, head
        self.shared = attachment.shared
        self.first_trainable_depth = attachment.first_trainable_depth
        self.together = tuple(attachment.together)  # a tuple: they are parts of the stack already
        self.lower_dropout = lower_dropout
        if not head.reads_vocabulary:  # what is not read would be trained without a gradient
            read = {id(parameter) for _, parameter in stack.headless()}
            for parameter in stack.parameters():
                parameter.requires_grad_(parameter.requires_grad and id(parameter) in read)

    @property
    def dtype(self) -> torch.dtype:
        return self.stack.word_embeddings.weight.dtype

    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def train(self, mode: bool = True) -> Tuned:
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

    def logits(self, batch: Batch, before: Iterable[Edit] = (), gradient_from: int | None = None) -> Tensor:
        """`before`: edits that act ahead of the method's own at the same depth.

        The backward goes down to `gradient_from`; None: to the method's first trainable depth.
        """
        lowest = self.first_trainable_depth if gradient_from is None else gradient_from
        stream = self.stack.run(batch, [*before, *self.edits], lowest)
        return self.head.logits(self.stack, stream, batch)

    def below(self, batch: Batch, depth: int) -> Stream:
        """The stream entering layer `depth`, without a backward and before that layer's edits."""
        with torch.no_grad():
            return self.stack.walk(self.stack.enter(batch), self.edits, stop=depth)

    def logits_above(self, batch: Batch, stream: Stream, depth: int, before: Iterable[Edit] = ()) -> Tensor:
        """From the stream `below` gave."""
        stream = self.stack.walk(stream, [*before, *self.edits], start=depth)
        return self.head.logits(self.stack, stream, batch)

    def loss(self, logits: Tensor, batch: Batch, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # not narrower than it is
        return nn.functional.cross_entropy(logits, self.head.targets(batch), reduction=reduction)

    def forward(self, views: list[View]) -> tuple[Tensor, Tensor]:
        """The loss trained on, and the clean loss alone (that of the first view), detached."""
        losses = [self.loss(self.logits(view.batch, view.edits), view.batch) for view in views]
        total = sum((view.weight * loss for view, loss in zip(views[1:], losses[1:], strict=True)), losses[0])
        return total, losses[0].detach()
