"""Backbones as Stacks: the core here, the architectures in `families`."""

from bench.models.stack.gathering import whole
from bench.models.stack.operation_counter import Flow, Rows
from bench.models.stack.stack import AdapterSite, Stack
from bench.models.stack.stream import Batch, CachedPrefix, Edit, Prefix, Stream, at

__all__ = [
    "Batch",
    "CachedPrefix",
    "Edit",
    "Flow",
    "Prefix",
    "Rows",
    "AdapterSite",
    "Stack",
    "Stream",
    "at",
    "whole",
]
