"""The one mechanism: a backbone is a Stack, what flows up it is a Stream, a method edits the Stream.

    word embeddings -> positions and norm -> layers 0..L-1 -> final norm -> head

Shapes: B batch, T text tokens, P prompt tokens, S = P + T, H hidden, V vocabulary, L layers.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.models.backbones import EMBEDDINGS
from bench.models.stack.gathering import whole
from bench.models.stack.last_layer import layer_at, mask_at
from bench.models.stack.stream import Batch, CachedPrefix, Edit, KeysValues, Stream

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNLIMITED = 10**6  # tokens of a text, where positions are relative


class AdapterSite(NamedTuple):
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
        """Of the states entering `depth`; at EMBEDDINGS, of the word embeddings."""
        return self.word_embeddings.embedding_dim if depth == EMBEDDINGS else self.hidden

    @property
    def words_scale(self) -> float:
        """What the weights of the word embeddings are multiplied by when they are looked up: sqrt(H) in Gemma."""
        return float(getattr(self.word_embeddings, "scalar_embed_scale", 1.0))

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
    def pre_layer_modules(self) -> Iterable[nn.Module]:
        """The modules between the word embeddings and layer 0."""

    @abstractmethod
    def add_positions(self, words: Tensor, batch: Batch) -> Tensor:
        """[B, T, H] word embeddings -> [B, T, H] input of layer 0: positions, and norm and dropout if any."""

    @abstractmethod
    def context(self, stream: Stream) -> Any:
        """What every layer needs besides the states: the attention mask in the backend's form, rotations."""

    @abstractmethod
    def layer(self, depth: int, states: Tensor, context: Any, **options: Any) -> Tensor:
        """[B, S, H] -> [B, S, H]. `options` go to the backbone's own layer: `prefix`, where there is one."""

    def keys_values(self, depth: int, states: Tensor, context: Any) -> KeysValues | None:
        """What attention in layer `depth` makes of `states` to look at; None where it takes none from outside."""
        return None

    def context_at(self, positions: Tensor, context: Any, tokens: int) -> Any:
        """`context` of a stream of S = `tokens`, for one query per example, at `positions` [B]."""
        return mask_at(positions, context, tokens, self.causal)

    @abstractmethod
    def final_norm(self, states: Tensor) -> Tensor:
        """[..., H] -> [..., H]: the norm after the last layer, where there is one."""

    @abstractmethod
    def vocabulary_logits(self, states: Tensor) -> Tensor:
        """[..., H] finished states -> [..., V] by the backbone's LM head."""

    @property
    @abstractmethod
    def vocabulary_head(self) -> list[nn.Module]:
        """The modules that nothing but `vocabulary_logits` reads; none where the checkpoint has no LM head."""

    @abstractmethod
    def site(self, layer: Any) -> AdapterSite: ...

    def heads(self, states: Tensor) -> Tensor:
        """Keys or values [B, S, key-value heads * head dimension], head by head."""
        return states.unflatten(-1, self.key_value_shape).transpose(1, 2)

    def accept_keys_values(self) -> None:
        """Lets attention take keys and values from outside; a method that gives prefixes calls it once."""
        from bench.models.stack import prefix  # with transformers, for which reading a matrix need not wait

        prefix.enable(self.attention_config)

    def lower_part(self, depth: int) -> list[nn.Module]:
        """All that the walk passes before layer `depth`: everything, where that is the last one's end."""
        if depth == len(self.layers):
            return [self]
        return [*self.pre_layer_modules, *self.layers[:depth]] if depth >= 0 else []

    @property
    def closed_layers(self) -> Iterable[nn.Module]:
        """Those of which the walk calls no part by itself: ZeRO-3 may gather each as one."""
        return self.layers[:-1]  # `keys_values` calls parts of the last

    def embed(self, batch: Batch) -> Stream:
        """The word embeddings."""
        return Stream(self.word_embeddings(batch.ids), batch.text_mask)

    def enter(self, batch: Batch, edits: Iterable[Edit] = (), words: Stream | None = None) -> Stream:
        """The stream entering layer 0; `edits` act at EMBEDDINGS."""
        stream = self.embed(batch) if words is None else words
        for edit in edits:
            stream = edit(EMBEDDINGS, stream)
        return stream._replace(states=self.add_positions(stream.states, batch))

    def walk(
        self,
        stream: Stream,
        edits: Iterable[Edit],
        start: int = 0,
        stop: int | None = None,
        position: Tensor | None = None,
    ) -> Stream:
        """`stream` entering layer `start` -> the stream entering layer `stop` (None: leaving the last layer).

        The edits act at every depth from `start` to `stop` - 1, in their order. What leaves the last layer is the
        text's `position` [B] alone, as a stream of one token; None: everything.
        """
        edits = tuple(edits)
        mask, context = None, None
        for depth in range(start, len(self.layers) if stop is None else stop):
            for edit in edits:
                stream = edit(depth, stream)
            if stream.mask is not mask:  # rebuilt when a prompt came in, not per layer
                mask, context = stream.mask, self.context(stream)
            options = {"prefix": stream.prefixes[depth]} if stream.prefixes else {}
            if position is not None and depth == len(self.layers) - 1:
                positions = stream.prompt_tokens + position
                states = self._pass(layer_at, self, positions, depth, stream.states, context, **options)
                return Stream(states, stream.mask.new_ones(states.shape[:2]))
            stream = stream._replace(states=self._pass(self.layer, depth, stream.states, context, **options))
        return stream

    def _pass(self, layer: Callable[..., Tensor], *inputs: Any, **options: Any) -> Tensor:
        """Through one layer; without a backward there is nothing to keep and nothing to compute again."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False, **options)
        return layer(*inputs, **options)

    def run(
        self,
        batch: Batch,
        edits: Iterable[Edit] = (),
        gradient_from: int = EMBEDDINGS,
        below: CachedPrefix | None = None,
        position: Tensor | None = None,
    ) -> Stream:
        """The whole walk, or what is left of it above `below`; nothing under `gradient_from` records a backward.

        Where `below` is of depth L, it was made with the same `position`.
        """
        edits = tuple(edits)
        start, stream = below or (EMBEDDINGS, None)
        if start == EMBEDDINGS:
            with no_grad_if(gradient_from > EMBEDDINGS):
                stream = self.enter(batch, edits, stream)
            start = 0
        assert stream is not None
        if gradient_from > start:
            with torch.no_grad():
                stream = self.walk(stream, edits, start, gradient_from, position)
        return self.walk(stream, edits, max(gradient_from, start), position=position)

    @torch.no_grad()
    def prefix_states(
        self,
        batch: Batch,
        edits: Iterable[Edit],
        depth: int,
        start: CachedPrefix | None = None,
        position: Tensor | None = None,
    ) -> CachedPrefix:
        """What enters `depth`, without a backward; `start` is what is known of it already."""
        edits = tuple(edits)
        if depth == EMBEDDINGS:
            return CachedPrefix(EMBEDDINGS, self.embed(batch))
        known = start or CachedPrefix(0, self.enter(batch, edits))
        return CachedPrefix(depth, self.walk(known.stream, edits, known.depth, depth, position))

    # what heads and methods ask

    def answer_position(self, batch: Batch) -> Tensor | None:
        """[B]: the position of the text that `answer` reads; None: all."""
        return batch.answer

    def answer(self, stream: Stream) -> Tensor:
        """[B, H]: the finished state that answers; `stream` is what leaves the last layer at `answer_position`."""
        return self.final_norm(stream.text[:, 0])

    def embedded(self, tokens: Sequence[int]) -> Tensor:
        """[N, H]: what layer 0 reads of each of N tokens, as a text of its own."""
        ids = torch.tensor(tokens, device=self.word_embeddings.weight.device)[:, None]
        none, one = torch.zeros_like(ids), torch.ones_like(ids, dtype=torch.bool)
        zero = none[:, 0]
        batch = Batch(ids, one, one, segments=none, answer=zero, labels=zero, noise_seeds=zero, example_ids=zero)
        modules = [self.word_embeddings, *self.pre_layer_modules]
        with torch.no_grad(), whole(p for module in modules for p in module.parameters()):
            return self.enter(batch).states[:, 0].clone()

    @property
    def sites(self) -> list[AdapterSite]:
        """Of every layer, from the lowest up."""
        return [self.site(layer) for layer in self.layers]

    def parameters_without_lm_head(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The named parameters that are not the LM head's alone: tied word embeddings are among them."""
        head = self.vocabulary_head
        inside = tuple(f"{name}." for name, module in self.named_modules() if any(module is one for one in head))
        return [(name, p) for name, p in self.named_parameters() if not name.startswith(inside)]

    def first_trainable_depth(self) -> int:
        """EMBEDDINGS if anything before layer 0 trains, else the lowest layer with a trainable, else L."""
        before = [self.word_embeddings, *self.pre_layer_modules]
        if any(p.requires_grad for module in before for p in module.parameters()):
            return EMBEDDINGS
        trains = (i for i, layer in enumerate(self.layers) if any(p.requires_grad for p in layer.parameters()))
        return next(trains, len(self.layers))


def parts(module: nn.Module, *names: str) -> list[nn.Module]:
    """Those parts of `module` that it has."""
    found = (getattr(module, name, None) for name in names)
    return [part for part in found if part is not None]


def no_grad_if(condition: bool) -> contextlib.AbstractContextManager[Any]:
    return torch.no_grad() if condition else contextlib.nullcontext()
