"""Backbones as stacks of layers: families, heads, checkpoints and shapes."""
