"""The walk of a Stack over shapes: the matrix products it makes, counted by an OperationCounter.

Of each family it is told which modules states pass, and in which order (wiring.py). What else a model was given tells
its own products by a method `count`: modules, edits and heads, as `Counted` and its like say. Element-wise work,
softmax, norms, look-ups and rotations are not counted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bench.models.backbones import EMBEDDINGS
from bench.models.stack.last_layer import DENSE
from bench.models.stack.operation_counter import Flow, OperationCounter, Rows, own_parameters, shape
from bench.models.stack.peft_flops import count_tuner, is_tuner
from bench.models.stack.stack import Stack

Modules = Sequence[nn.Module]


@runtime_checkable
class Counted(Protocol):
    """A module that tells its products."""

    def count(self, products: Products, rows: Rows) -> Rows: ...


class CountedEdit(Protocol):
    def count(self, products: Products, depth: int, flow: Flow) -> Flow: ...


class Parts(NamedTuple):
    """The modules of a layer, each kind in the order in which states pass them."""

    query: Modules
    key: Modules  # the query's own, where one projection makes all three
    value: Modules
    output: Modules  # behind attention, up to the residual
    wide: Modules  # of the feed-forward, side by side
    narrow: Modules  # behind those, up to the residual
    before: Modules = ()  # norms: of what attention reads,
    between: Modules = ()  # of the sum with what it gives,
    ahead: Modules = ()  # of what the feed-forward reads,
    after: Modules = ()  # and of the last sum


class Products(ABC):
    reads_row = True  # whether the last layer runs at one position where one is read
    finishing: Modules = ()  # norms after the last layer

    def __init__(self, stack: Stack, tally: OperationCounter):
        self.stack, self.tally = stack, tally
        self.hidden = stack.hidden

    @abstractmethod
    def parts(self, layer: Any) -> Parts: ...

    # the walk, as Stack's

    def enter(self, flow: Flow, edits: Iterable[CountedEdit]) -> Flow:
        rows = self.apply(self.stack.word_embeddings, self.rows(flow, self.stack.width(EMBEDDINGS)))
        flow = replace(flow, tracked=rows.tracked)
        for edit in edits:
            flow = edit.count(self, EMBEDDINGS, flow)
        rows = rows._replace(tracked=flow.tracked)
        for module in self.stack.pre_layer_modules:
            rows = self.through(module, rows)
        return replace(flow, tracked=rows.tracked)

    def walk(
        self, flow: Flow, edits: Iterable[CountedEdit], start: int = 0, stop: int | None = None, answer: bool = False
    ) -> Flow:
        """`answer`: what leaves the last layer is one position of the text."""
        edits, end = tuple(edits), len(self.stack.layers)
        for depth in range(start, end if stop is None else stop):
            for edit in edits:
                flow = edit.count(self, depth, flow)
            one = answer and depth == end - 1
            with self.tally.checkpoint(self.stack.checkpointing):
                rows = self.layer(depth, flow, one and self._reads_row)
            flow = Flow(flow.examples, 1) if one else flow
            flow = replace(flow, tracked=rows.tracked)
        return flow

    @property
    def _reads_row(self) -> bool:
        return self.reads_row and self.stack.attention_config._attn_implementation.endswith(DENSE)

    def layer(self, depth: int, flow: Flow, one: bool) -> Rows:
        """`one`: queries are of one position, keys and values of all."""
        layer: Any = self.stack.layers[depth]
        parts, states = self.parts(layer), self.rows(flow)
        read = self.chain(parts.before, states)
        if one:
            _, key, value = self.projected(parts, read, queries=False)
            states = states._replace(length=flow.examples)
            query = self.projected(parts, self.chain(parts.before, states), keys=False)[0]
        else:
            query, key, value = self.projected(parts, read)
        key, value = (r._replace(tracked=r.tracked or flow.prefix_tracked) for r in (key, value))
        context = self.attention(layer, query, key, value, flow.tokens + flow.prefix_tokens)
        states = self.chain(parts.between, states | self.chain(parts.output, context))
        return self.apply(self.stack.site(layer).block, self.feed_forward(parts, states))

    def projected(self, parts: Parts, rows: Rows, queries: bool = True, keys: bool = True) -> tuple[Rows, Rows, Rows]:
        """Query, key and value; through those that are not asked for no gradient goes back."""
        if parts.key is parts.query:
            made = self.chain(parts.query, rows)
            third = made._replace(features=made.features // 3)
            return third, third, third
        key = value = rows
        query = self.chain(parts.query, rows) if queries else rows
        if keys:
            return query, self.chain(parts.key, rows), self.chain(parts.value, rows)
        with self.tally.unrecorded():  # the layer makes them of its row, and they are replaced
            key, value = self.chain(parts.key, rows), self.chain(parts.value, rows)
        return query, key, value

    def attention(self, layer: Any, query: Rows, key: Rows, value: Rows, keys: int) -> Rows:
        """Scores and their sums of values, over all heads; `keys` to look at for every query."""
        size = query.length * keys * query.features
        scores = self.tally.product(size, query.tracked, key.tracked)
        return query._replace(tracked=self.tally.product(size, scores, value.tracked))

    def feed_forward(self, parts: Parts, states: Rows) -> Rows:
        read = self.chain(parts.ahead, states)
        wide = [self.apply(module, read) for module in parts.wide]
        joined = wide[0]._replace(tracked=any(rows.tracked for rows in wide))
        return self.chain(parts.after, states | self.chain(parts.narrow, joined))

    def final_norm(self, rows: Rows) -> Rows:
        return self.chain(self.finishing, rows)

    def answer(self, flow: Flow) -> Rows:
        return self.final_norm(Rows(flow.examples, self.hidden, flow.tracked))

    def vocabulary_logits(self, rows: Rows) -> Rows:
        for module in self.stack.vocabulary_head:
            rows = self.through(module, rows)
        return rows

    # single modules

    def rows(self, flow: Flow, features: int | None = None) -> Rows:
        return Rows(flow.examples * flow.tokens, features or self.hidden, flow.tracked)

    def linear(self, rows: Rows, weight: Tensor, features: int, bias: Tensor | None = None) -> Rows:
        """By `weight`, of two dimensions in either order, one of which is `features`."""
        first, second = shape(weight)
        tracked = self.tally.product(rows.length * first * second, rows.tracked, self.tally.trains(weight))
        return Rows(rows.length, features, tracked or (self.tally.recording and self.tally.trains(bias)))

    def chain(self, modules: Iterable[nn.Module], rows: Rows) -> Rows:
        for module in modules:
            rows = self.apply(module, rows)
        return rows

    def through(self, module: nn.Module, rows: Rows) -> Rows:
        """All that a module has, one after the other."""
        parts = list(module.children())
        if not parts or isinstance(module, Counted) or is_tuner(module):
            return self.apply(module, rows)
        return self._element_wise(module, self._each(parts, rows))

    def _each(self, modules: Modules, rows: Rows) -> Rows:
        for module in modules:
            rows = self.through(module, rows)
        return rows

    def apply(self, module: nn.Module, rows: Rows) -> Rows:
        """And the adapter behind it, if there is one."""
        made = self._own(module, rows)
        adapter = getattr(module, "adapter", None)
        return made if adapter is None else made | self.apply(adapter, made)

    def _own(self, module: nn.Module, rows: Rows) -> Rows:
        if isinstance(module, Counted):
            return module.count(self, rows)
        if is_tuner(module):
            return count_tuner(self, module, rows)
        if isinstance(module, nn.Linear):
            return self.linear(rows, module.weight, shape(module.weight)[0], module.bias)
        if isinstance(module, Conv1D):
            return self.linear(rows, module.weight, shape(module.weight)[1], module.bias)
        if isinstance(module, nn.Sequential):
            return self.chain(module, rows)
        return self._element_wise(module, rows)

    def _element_wise(self, module: nn.Module, rows: Rows) -> Rows:
        """What makes no products; a container does nothing by itself."""
        parameters = own_parameters(module)
        rows = rows._replace(tracked=rows.tracked or (self.tally.recording and self.tally.trains(*parameters)))
        if isinstance(module, nn.Dropout):
            keeps = module.training and module.p > 0 and self.tally.weights
        else:
            keeps = bool(parameters) or not any(True for _ in module.children())
        if keeps and rows.tracked and self.tally.recording:
            self.tally.kept()
        return rows
