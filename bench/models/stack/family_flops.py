"""Of each family, which modules of a layer the states pass, for counting what they cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from bench.models.stack.albert import Albert
from bench.models.stack.bert import Bert, Roberta
from bench.models.stack.deberta import Deberta
from bench.models.stack.flop_counting import Modules, Parts, Products
from bench.models.stack.gpt2 import Gpt2
from bench.models.stack.llama import Llama
from bench.models.stack.operation_counter import Flow, OperationCounter, Rows, shape
from bench.models.stack.opt import Opt
from bench.models.stack.stack import Stack, parts
from bench.models.stack.t5 import T5


class BertProducts(Products):
    def projections(self, attention: Any) -> tuple[Modules, Modules, Modules]:
        return [attention.query], [attention.key], [attention.value]

    def parts(self, layer: Any) -> Parts:
        output = layer.attention.output
        return Parts(
            *self.projections(layer.attention.self),
            output=[output.dense, output.dropout],
            wide=[layer.intermediate.dense],
            narrow=[layer.output.dense, layer.output.dropout],
            between=[output.LayerNorm],
            after=[layer.output.LayerNorm],
        )


class AlbertProducts(Products):
    def parts(self, layer: Any) -> Parts:
        (inner,) = layer.albert_layers
        attention = inner.attention
        return Parts(
            [attention.query],
            [attention.key],
            [attention.value],
            output=[attention.dense, attention.output_dropout],
            wide=[inner.ffn],
            narrow=[inner.ffn_output],
            between=[attention.LayerNorm],
            after=[inner.full_layer_layer_norm],
        )


class DebertaProducts(BertProducts):
    """Attention looks at distances, too: 2 spans of them, the same for all examples."""

    reads_row = False

    def __init__(self, stack: Stack, tally: OperationCounter):
        super().__init__(stack, tally)
        self.encoder = stack.backbone.base_model.encoder

    def projections(self, attention: Any) -> tuple[Modules, Modules, Modules]:
        return [attention.query_proj], [attention.key_proj], [attention.value_proj]

    def layer(self, depth: int, flow: Flow, one: bool) -> Rows:
        """A prefix takes part as rows of its own."""
        rows = self.rows(flow)
        made = super().layer(depth, replace(flow, tokens=flow.tokens + flow.prefix_tokens, prefix_tokens=0), one)
        convolution: Any = self.encoder.conv
        if depth > 0 or convolution is None:
            return made
        count = rows.length + flow.examples * flow.prefix_tokens
        weight = convolution.conv.weight
        size = count * shape(weight)[0] * shape(weight)[1] * shape(weight)[2]
        tracked = self.tally.product(size, rows.tracked, self.tally.trains(weight))
        return self.apply(convolution.LayerNorm, made._replace(tracked=made.tracked or tracked))

    def attention(self, layer: Any, query: Rows, key: Rows, value: Rows, keys: int) -> Rows:
        content = super().attention(layer, query, key, value, keys)
        return content | self._distances(layer.attention.self, query, key)

    def _distances(self, attention: Any, query: Rows, key: Rows) -> Rows:
        encoder, none = self.encoder, query._replace(tracked=False)
        if not attention.relative_attention:
            return none
        table = Rows(2 * attention.pos_ebd_size, self.hidden)
        table = self.chain([encoder.rel_embeddings, *parts(encoder, "LayerNorm")], table)
        for name, content, shared, apart in (
            ("c2p", query, attention.key_proj, "pos_key_proj"),
            ("p2c", key, attention.query_proj, "pos_query_proj"),
        ):
            if name in attention.pos_att_type or attention.share_att_key:
                place = self.apply(shared if attention.share_att_key else getattr(attention, apart), table)
                if name in attention.pos_att_type:
                    size = content.length * content.features * table.length
                    none |= none._replace(tracked=self.tally.product(size, content.tracked, place.tracked))
        return none

    def vocabulary_logits(self, rows: Rows) -> Rows:
        rows = super().vocabulary_logits(rows)
        if self.stack.config.legacy:
            return rows
        weight: Any = self.stack.word_embeddings.weight
        return self.linear(rows, weight, shape(weight)[0])


class Gpt2Products(Products):
    def __init__(self, stack: Stack, tally: OperationCounter):
        super().__init__(stack, tally)
        self.finishing = [stack.backbone.transformer.ln_f]

    def parts(self, layer: Any) -> Parts:
        made = [layer.attn.c_attn]
        return Parts(
            made,
            made,
            made,
            before=[layer.ln_1],
            output=[layer.attn.c_proj, layer.attn.resid_dropout],
            ahead=[layer.ln_2],
            wide=[layer.mlp.c_fc],
            narrow=[layer.mlp.c_proj, layer.mlp.dropout, layer.mlp],
        )


class OptProducts(Products):
    def __init__(self, stack: Stack, tally: OperationCounter):
        super().__init__(stack, tally)
        self.finishing = parts(stack.backbone.model.decoder, "final_layer_norm")

    def parts(self, layer: Any) -> Parts:
        attention, first = layer.self_attn, layer.do_layer_norm_before
        norms = [layer.self_attn_layer_norm], [layer.final_layer_norm]
        dropout = nn.Dropout(layer.dropout).train(layer.training)  # a function there
        return Parts(
            [attention.q_proj],
            [attention.k_proj],
            [attention.v_proj],
            output=[attention.out_proj, dropout],
            wide=[layer.fc1],
            narrow=[layer.fc2, dropout],
            **dict(zip(("before", "ahead") if first else ("between", "after"), norms, strict=True)),
        )


class LlamaProducts(Products):
    def __init__(self, stack: Stack, tally: OperationCounter):
        super().__init__(stack, tally)
        self.finishing = [stack.backbone.model.norm]

    def parts(self, layer: Any) -> Parts:
        attention, mlp = layer.self_attn, layer.mlp
        return Parts(
            [attention.q_proj, *parts(attention, "q_norm")],
            [attention.k_proj, *parts(attention, "k_norm")],
            [attention.v_proj],
            before=[layer.input_layernorm],
            output=[attention.o_proj],
            ahead=[layer.post_attention_layernorm],
            wide=[mlp.gate_proj, mlp.up_proj],
            narrow=[mlp.down_proj, mlp],
        )


class T5Products(Products):
    def __init__(self, stack: Stack, tally: OperationCounter):
        super().__init__(stack, tally)
        self.finishing = [stack.backbone.encoder.final_layer_norm]

    def parts(self, layer: Any) -> Parts:
        first, last = layer.layer[0], layer.layer[-1]
        attention, inner = first.SelfAttention, last.DenseReluDense
        return Parts(
            [attention.q],
            [attention.k],
            [attention.v],
            before=[first.layer_norm],
            output=[attention.o, first.dropout],
            ahead=[last.layer_norm],
            wide=parts(inner, "wi", "wi_0", "wi_1"),
            narrow=[inner.wo, last.dropout],
        )

    def answer(self, flow: Flow) -> Rows:
        """The decoder, whose text is one token."""
        read = self.final_norm(self.rows(flow))
        decoder = self.stack.backbone.decoder
        states = self.apply(self.stack.word_embeddings, Rows(flow.examples, self.hidden))
        for block in decoder.block:
            made, across = self.parts(block), block.layer[1]
            own = self.projected(made, self.chain(made.before, states))
            states |= self.chain(made.output, self.attention(block, *own, 1))
            attention = across.EncDecAttention
            query = self.chain([across.layer_norm, attention.q], states)
            key, value = self.apply(attention.k, read), self.apply(attention.v, read)
            context = self.attention(block, query, key, value, flow.tokens)
            states |= self.chain([attention.o, across.dropout], context)
            states = self.apply(block, self.feed_forward(made, states))
        return self.apply(decoder.final_layer_norm, states)


PRODUCTS: dict[type[Stack], type[Products]] = {
    Albert: AlbertProducts,
    Bert: BertProducts,
    Deberta: DebertaProducts,
    Gpt2: Gpt2Products,
    Llama: LlamaProducts,
    Opt: OptProducts,
    Roberta: BertProducts,
    T5: T5Products,
}


def products(stack: Stack, tally: OperationCounter) -> Products:
    return PRODUCTS[type(stack)](stack, tally)
