"""The one mechanism: a backbone is a Stack, what flows up it is a Stream, a method edits the Stream.

    words -> place (positions, norm) -> layers 0..L-1 -> finish -> head

Shapes: B batch, T text tokens, P prompt tokens, S = P + T, H hidden, V vocabulary, L layers.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNLIMITED = 10**6  # tokens of a text, where positions are relative
WORDS = -1  # the depth before place: the word embeddings


@dataclass(frozen=True)
class Batch:
    """Padded on the right, for encoders and decoders alike."""

    ids: Tensor  # [B, T] int64
    text_mask: Tensor  # [B, T] bool: real tokens, no padding
    eligible: Tensor  # [B, T] bool: words of the user's text, which a perturbation may touch
    segments: Tensor  # [B, T] int64: 0, or 1 in the second text of a pair
    answer: Tensor  # [B] int64: the position that answers (the mask, or the last token of a decoder's text)
    labels: Tensor  # [B] int64: class indices
    keys: Tensor  # [B] int64: one number per example and step, the seed of its noise
    shift: Tensor | None = None  # [B, T, width of the word embeddings]: added to them

    def to(self, device: torch.device) -> Batch:
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)


Prefix = tuple[Tensor, Tensor]  # keys and values, each [P, key-value heads, head dimension]


class Stream(NamedTuple):
    """What enters a layer. A tuple, because ZeRO-3 finds the tensors in those and in nothing of our own."""

    states: Tensor  # [B, S, H]
    mask: Tensor  # [B, S] bool
    prompt_tokens: int = 0  # P: how many leading positions are prompt
    prefixes: tuple[Prefix, ...] = ()  # one per layer, or none: what its attention sees in front of its own keys

    @property
    def text(self) -> Tensor:
        """[B, T, H]: the states of the text, without the prompt."""
        return self.states[:, self.prompt_tokens :]


Edit = Callable[[int, Stream], Stream]  # (depth, stream entering that layer) -> stream


class Site(NamedTuple):
    """Where adapters go in one layer: modules that give a [..., H] tensor."""

    attention: nn.Module  # gives what is added to the residual after attention
    feed_forward: nn.Module  # gives what is added to the residual after the feed-forward
    norm: nn.Module | None  # the norm of that sum; None where norms come before
    block: nn.Module  # the layer


class Stack(nn.Module, ABC):
    """The walk through a Hugging Face backbone, layer by layer. One subclass per family of architectures.

    The walk equals the backbone's own forward exactly (difference 0.0 in fp32) on the same mask and positions.
    Prompts go in front of everything and get no learned position; where positions are rotary they get
    -P..-1, so that the text keeps its own.
    """

    form: ClassVar[Literal["masked", "causal", "encoder_decoder"]] = "masked"
    checkpointing: bool = False  # layers keep their input only and compute again in the backward
    headless_options: ClassVar[dict[str, Any]] = {}  # of the constructor, where the checkpoint has no LM head
    variants: ClassVar[tuple[dict[str, Any], ...]] = ({},)  # configs to try, where a checkpoint's own does not tell
    backbone: Any  # a PreTrainedModel; the walk reaches into it by names that its type does not declare

    def __init__(self, backbone: PreTrainedModel):
        super().__init__()
        self.backbone = backbone
        self.requires_grad_(False)

    @property
    def config(self) -> Any:
        return self.backbone.config

    @property
    def attention_config(self) -> Any:
        """The config that the layers' attention reads."""
        return self.config

    @property
    def causal(self) -> bool:
        return self.form == "causal"

    @property
    def hidden(self) -> int:
        return self.config.hidden_size

    def width(self, depth: int) -> int:
        """Of the states entering `depth`; at WORDS, of the word embeddings."""
        return self.word_embeddings.embedding_dim if depth == WORDS else self.hidden

    @property
    def key_value_shape(self) -> tuple[int, int]:
        """Key-value heads and the dimension of each."""
        heads = self.config.num_attention_heads
        return heads, self.hidden // heads

    @property
    def max_text(self) -> int:
        """The longest text, in tokens, that the backbone has positions for. Prompts take none."""
        return self.config.max_position_embeddings

    # what a family tells

    @property
    @abstractmethod
    def word_embeddings(self) -> nn.Embedding: ...

    @property
    @abstractmethod
    def layers(self) -> nn.ModuleList: ...

    @property
    @abstractmethod
    def placement(self) -> Iterable[nn.Module]:
        """The modules between the word embeddings and layer 0."""

    @abstractmethod
    def place(self, words: Tensor, batch: Batch) -> Tensor:
        """[B, T, H] word embeddings -> [B, T, H] input of layer 0: positions, and norm and dropout if any."""

    @abstractmethod
    def context(self, stream: Stream) -> Any:
        """What every layer needs besides the states: the attention mask in the backend's form, rotations."""

    @abstractmethod
    def layer(self, depth: int, states: Tensor, context: Any, **options: Any) -> Tensor:
        """[B, S, H] -> [B, S, H]. `options` go to the backbone's own layer: `prefix`, where there is one."""

    @abstractmethod
    def finish(self, states: Tensor) -> Tensor:
        """[..., H] -> [..., H]: the norm after the last layer, where there is one."""

    @abstractmethod
    def vocabulary_logits(self, states: Tensor) -> Tensor:
        """[..., H] finished states -> [..., V] by the backbone's LM head."""

    @property
    @abstractmethod
    def vocabulary_head(self) -> list[nn.Module]:
        """The modules that nothing but `vocabulary_logits` reads; none where the checkpoint has no LM head."""

    @abstractmethod
    def site(self, layer: Any) -> Site: ...

    def accept_prefixes(self) -> None:
        """Called once by a method that gives prefixes, before the first walk."""
        from bench.stack import prefix  # with transformers, for which reading a matrix need not wait

        prefix.enable(self.attention_config)

    def lower_part(self, depth: int) -> list[nn.Module]:
        """All that the walk passes before layer `depth`: everything, where that is the last one's end."""
        if depth == len(self.layers):
            return [self]
        return [*self.placement, *self.layers[:depth]] if depth >= 0 else []

    @property
    def closed_layers(self) -> Iterable[nn.Module]:
        """Those of which the walk calls no part by itself: ZeRO-3 may gather each as one."""
        return self.layers

    # the walk

    def enter(self, batch: Batch) -> Stream:
        """The stream entering layer 0."""
        words = self.word_embeddings(batch.ids)
        if batch.shift is not None:
            words = words + batch.shift
        return Stream(self.place(words, batch), batch.text_mask)

    def walk(self, stream: Stream, edits: Iterable[Edit], start: int = 0, stop: int | None = None) -> Stream:
        """`stream` entering layer `start` -> the stream entering layer `stop` (None: leaving the last layer).

        The edits act at every depth from `start` to `stop` - 1, in their order.
        """
        edits = tuple(edits)
        mask, context = None, None
        for depth in range(start, len(self.layers) if stop is None else stop):
            for edit in edits:
                stream = edit(depth, stream)
            if stream.mask is not mask:  # rebuilt when a prompt came in, not per layer
                mask, context = stream.mask, self.context(stream)
            options = {"prefix": stream.prefixes[depth]} if stream.prefixes else {}
            stream = stream._replace(states=self._pass(depth, stream.states, context, **options))
        return stream

    def _pass(self, depth: int, states: Tensor, context: Any, **options: Any) -> Tensor:
        """Through one layer; without a backward there is nothing to keep and nothing to compute again."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(self.layer, depth, states, context, use_reentrant=False, **options)
        return self.layer(depth, states, context, **options)

    def run(self, batch: Batch, edits: Iterable[Edit] = (), gradient_from: int = WORDS) -> Stream:
        """The whole walk; nothing below depth `gradient_from` records a backward."""
        edits = tuple(edits)
        with no_grad_if(gradient_from > WORDS):
            stream = self.enter(batch)
        if gradient_from > 0:
            with torch.no_grad():
                stream = self.walk(stream, edits, stop=gradient_from)
        return self.walk(stream, edits, start=max(gradient_from, 0))

    # what heads and methods ask

    def answer(self, stream: Stream, batch: Batch) -> Tensor:
        """[B, H]: the finished state that answers."""
        return self.finish(at(stream.text, batch.answer))

    def embedded(self, tokens: list[int]) -> Tensor:
        """[N, H]: what layer 0 reads of each of N tokens, as a text of its own."""
        ids = torch.tensor(tokens, device=self.word_embeddings.weight.device)[:, None]
        none, one = torch.zeros_like(ids), torch.ones_like(ids, dtype=torch.bool)
        batch = Batch(ids, one, one, segments=none, answer=none[:, 0], labels=none[:, 0], keys=none[:, 0])
        modules = [self.word_embeddings, *self.placement]
        with torch.no_grad(), whole(p for module in modules for p in module.parameters()):
            return self.enter(batch).states[:, 0].clone()

    @property
    def sites(self) -> list[Site]:
        """Of every layer, from the lowest up."""
        return [self.site(layer) for layer in self.layers]

    def headless(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The named parameters that are not the LM head's alone: tied word embeddings are among them."""
        head = self.vocabulary_head
        inside = tuple(f"{name}." for name, module in self.named_modules() if any(module is one for one in head))
        return [(name, p) for name, p in self.named_parameters() if not name.startswith(inside)]

    def first_trainable_depth(self) -> int:
        """WORDS if anything before layer 0 trains, else the lowest layer with a trainable, else L."""
        before = [self.word_embeddings, *self.placement]
        if any(p.requires_grad for module in before for p in module.parameters()):
            return WORDS
        trains = (i for i, layer in enumerate(self.layers) if any(p.requires_grad for p in layer.parameters()))
        return next(trains, len(self.layers))


def parts(module: nn.Module, *names: str) -> list[nn.Module]:
    """Those parts of `module` that it has."""
    found = (getattr(module, name, None) for name in names)
    return [part for part in found if part is not None]


def at(states: Tensor, positions: Tensor) -> Tensor:
    """[B, T, H] at [B] -> [B, H]."""
    return states[torch.arange(len(states), device=states.device), positions]


@contextlib.contextmanager
def whole(parameters: Iterable[nn.Parameter]) -> Generator[None, None, None]:
    """ZeRO-3 may have partitioned `parameters` already: gathers them, to be read only. A collective call."""
    found: set[Any] = {p for p in parameters if hasattr(p, "ds_id")}
    partitioned = sorted(found, key=lambda p: p.ds_id)  # in one order on all ranks
    if partitioned:
        partitioned[0].all_gather(partitioned)
    try:
        yield
    finally:
        if partitioned:
            partitioned[0].partition(partitioned)


def no_grad_if(condition: bool) -> contextlib.AbstractContextManager[Any]:
    return torch.no_grad() if condition else contextlib.nullcontext()
