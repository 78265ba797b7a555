"""Backbones as Stacks: the core here, the architectures in `families`."""

from bench.stack.core import Site, Stack
from bench.stack.gathering import whole
from bench.stack.stream import WORDS, Batch, Below, Edit, Prefix, Stream, at
from bench.stack.tally import Flow, Rows

__all__ = ["WORDS", "Batch", "Below", "Edit", "Flow", "Prefix", "Rows", "Site", "Stack", "Stream", "at", "whole"]
