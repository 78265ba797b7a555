"""Layers by torch.compile."""

from __future__ import annotations

import torch

from bench.models.stack.stack import Stack

VARIANTS = 64  # of one layer's code: training and not, one row of it, lengths


def compile_layers(stack: Stack) -> None:
    """Each layer is compiled when it is first called, with what a method has put into it; alike ones share the code.

    Dropout is drawn otherwise than uncompiled. With DeepSpeed 0.19.8 a layer under ZeRO-3 falls into a dozen graphs,
    and steps of a small model took half as long again.

    What was compiled for other stacks is forgotten: torch runs what exceeds its number of variants uncompiled.
    """
    torch.compiler.reset()
    for layer in stack.layers:
        layer.compile(dynamic=True, recompile_limit=VARIANTS)
