"""What perturbations need, in three forms each: a reference in plain PyTorch, compiled for CPUs, Triton for GPUs.

The forms of an operation are tested against each other and against float64 (`checks.py`).
"""
