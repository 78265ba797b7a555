"""What a method gives back when it is attached to a stack."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn


@dataclass
class Attachment:
    """What a method added: edits with their own parameters, and the lowest depth that needs a backward."""

    first_trainable_depth: int  # EMBEDDINGS, 0..L-1, or L when only the head trains
    edits: list[nn.Module] = field(default_factory=list[nn.Module])
    shared: list[nn.Module] = field(default_factory=list[nn.Module])  # frozen, with buffers that several layers read
    together: list[nn.Module] = field(default_factory=list[nn.Module])  # that read weights of parts they do not call
