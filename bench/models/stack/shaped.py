"""A backbone of a real shape with random weights: for what is measured of its costs alone, without a download."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig
from transformers.initialization import no_init_weights

from bench.models.backbones import FAMILIES, Backbone
from bench.models.shapes import SHAPES
from bench.models.stack.families import STACKS, attention_options, auto, build
from bench.models.stack.partitioned import Partitioning
from bench.models.stack.stack import Stack


def load_random(
    backbone: Backbone,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
    partitioning: Partitioning | None = None,
    attention: str = "sdpa",
) -> Stack:
    """The Stack of `backbone` with the weights that its class starts from; frozen, in eval mode.

    In `dtype` on `device`; with `partitioning`, a collective call, in its precision and partitioned from the start.
    """
    config = config_of(backbone)
    options = attention_options(attention)
    if not backbone.lm_head:
        options |= STACKS[FAMILIES[backbone.model_type]].headless_options
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        if partitioning is None:
            with device:
                model = auto(backbone).from_config(config, dtype=dtype, **options)
        else:
            with no_init_weights(), partitioning.building():
                model = auto(backbone).from_config(config, dtype=partitioning.dtype, **options)
            model.tie_weights(recompute_mapping=False)
            _start(model, partitioning)
    if not config.tie_word_embeddings:  # T5 1.1 has one for encoder and decoder all the same
        model.set_input_embeddings(model.get_input_embeddings())
    return build(model).eval()


def config_of(backbone: Backbone) -> Any:
    """Of a folder its config.json, of a name on the hub its shape."""
    if backbone.source != "hub":
        return AutoConfig.from_pretrained(backbone.checkpoint, trust_remote_code=False)
    shape = SHAPES[backbone.name]
    config: Any = AutoConfig.for_model(backbone.model_type, **shape)
    # transformers 5.23 sets it in every T5, and unties those whose checkpoints have both
    config.tie_word_embeddings = shape.get("tie_word_embeddings", config.tie_word_embeddings)
    return config


def _start(model: Any, partitioning: Partitioning) -> None:
    """Module by module, parts before what they are in, as `initialize_weights`."""
    for module in reversed(list(model.modules())):
        # some classes start what lies one level below them
        parameters = [p for part in (module, *module.children()) for p in part.parameters(recurse=False)]
        if parameters:
            partitioning.start(list(dict.fromkeys(parameters)), lambda module=module: _start_one(model, module))


def _start_one(model: Any, module: nn.Module) -> None:
    with torch.no_grad():
        model._init_weights(module)
