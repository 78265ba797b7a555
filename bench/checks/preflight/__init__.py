"""`bench preflight`: is what DeepSpeed trains on the gradient of the loss?

A matrix's cells are reduced to probes: each distinct combination of what can change a gradient, on a narrow random
backbone of the same type and depth. A probe is one step on a random batch, once through the engine, on the cell's
ranks, and once in plain PyTorch, on one process.

A verdict is about the loss and every trainable's gradient, as the optimizer would get it:

- exact: the same bits as plain PyTorch in the cell's precision.
- within rounding: not further from plain PyTorch in float64 than 2 x what plain PyTorch in the cell's precision is,
  4 x the root mean square of that over all tensors (on one of them it may be near by luck), and 4 eps of that
  precision for roundings that only several ranks have: scaling, the sum over ranks, its buffers.
- wrong: further than that.
- unsupported: an exception, a process that died, no result in time, or roundings so large that they would hide a
  rank that is left out. Where that concerns the probe alone (a size that does not divide its narrow layers, or such
  roundings) the cell is run all the same.

What a folder's config sets besides type and depth (OPT's norms behind, T5's gated feed-forward) is not in the probe.

The distance is the relative L2 norm, tensor by tensor: relative to the tensor's own norm, or to 1 % of the largest
tensor's where that is more; of a gradient that is zero but for rounding (attention's key bias) only the rounding could
be compared. The size along the true gradient is held to the same rule, since in bf16 and many layers roundings are
large, but cancel along it.
"""
