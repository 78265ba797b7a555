"""Claims of papers as tests on records: `results/claims.yaml` states them, the records decide.

A claim compares two sides of the same setting over the same seeds. It is supported where the whole interval of the
effect lies on the claimed side, contradicted where it lies on the other, and else not decided yet.
"""

from __future__ import annotations

from bench.board.claims.claim import Claim, load
from bench.board.claims.forms import content, markdown, section
from bench.board.claims.verdict import Verdict, verdicts

__all__ = ["Claim", "Verdict", "content", "load", "markdown", "section", "verdicts"]
