"""Backbones as Stacks: the core here, the architectures in `families`."""

from bench.models.stack.gathering import whole
from bench.models.stack.operation_counter import Flow, Rows
from bench.models.stack.stack import Site, Stack
from bench.models.stack.stream import WORDS, Batch, Below, Edit, Prefix, Stream, at

__all__ = ["WORDS", "Batch", "Below", "Edit", "Flow", "Prefix", "Rows", "Site", "Stack", "Stream", "at", "whole"]
