"""Backbones as Stacks: the core here, the architectures in `families`."""

from bench.stack.core import WORDS, Batch, Edit, Stack, Stream

__all__ = ["WORDS", "Batch", "Edit", "Stack", "Stream"]
