"""Faults of libraries that are known to their authors, so that nobody looks for them here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.checks.preflight.verdicts import Verdict


@dataclass(frozen=True)
class Fault:
    pattern: str  # found in the exception
    link: str
    line: str


FAULTS = (
    Fault(
        r"(?s)CheckpointError.*recomputed metadata: \{'shape': torch\.Size\(\[0\]\)",
        "https://github.com/deepspeedai/DeepSpeed/pull/8148",
        "ZeRO-3 frees frozen parameters while a checkpointed layer is computed again",
    ),
    Fault(
        r"Type fp16 is not supported",
        "https://github.com/deepspeedai/DeepSpeed/issues/5718",
        "DeepSpeed takes fp16 only where the device has it; most CPUs have not",
    ),
)


def known(verdict: Verdict) -> Fault | None:
    return next((fault for fault in FAULTS if re.search(fault.pattern, verdict.exception or "")), None)
