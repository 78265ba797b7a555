"""Backbones as Stacks: the core here, the architectures in `families`."""

from bench.stack.core import WORDS, Batch, Edit, Prefix, Site, Stack, Stream, at, whole

__all__ = ["WORDS", "Batch", "Edit", "Prefix", "Site", "Stack", "Stream", "at", "whole"]
