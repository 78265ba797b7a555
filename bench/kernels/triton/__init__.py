"""The operations for GPUs. Only these files import triton, which an installation for CPUs lacks."""

import torch


def block(elements: int, device: torch.device) -> int:
    """`elements` at a time; more under the interpreter, whose cost is by the program."""
    return elements if device.type == "cuda" else 16 * elements
