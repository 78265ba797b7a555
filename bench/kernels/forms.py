"""In which forms the operations come, and which of them can run here. Known without torch."""

from __future__ import annotations

import importlib.util
import os
import shutil

from bench.core.settings import unknown

FORMS = ("reference", "compiled", "triton")


def unavailable(form: str, device: str) -> str | None:
    """Why `form` cannot run on a `device` of this type, cpu or cuda; None where it can."""
    if form not in FORMS:
        return unknown(form, ("auto", *FORMS))
    if form == "compiled":
        if device != "cpu":
            return f"found device {device}, expected cpu"
        return None if compiler() else "found no C++ compiler, expected c++, g++, clang++ or what CXX names"
    if form == "triton":
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed"
        if device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            return f"found device {device}, expected cuda (or TRITON_INTERPRET=1, for tests)"
    return None


def compiler() -> str | None:
    """`CXX`, else what there is."""
    return os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
