"""Which tests run in one process of pytest-xdist: those of a file, and those that share warm ranks or a finished run.

The scheduler knows a test by its id alone, so the functions of its file are looked up in the file's source. (The marks
of `--dist loadgroup` do not reach it: pytest 9.2 keeps ids where pytest-xdist 3.8 does not change them.)
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from places import ROOT

SHARED = ("ranks", "finished", "interrupted")  # fixtures that are expensive to have twice


def scope(nodeid: str) -> str:
    """The name of a fixture of SHARED where the test uses it, also through fixtures of its file; else its file."""
    path, _, rest = nodeid.partition("::")
    file = ROOT / path
    return users(file).get(rest.partition("[")[0], path) if file.is_file() else path


@functools.cache
def users(file: Path) -> dict[str, str]:
    """The functions of `file` that use a fixture of SHARED, and which one."""
    functions = {
        one.name: {argument.arg for argument in one.args.args}
        for one in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(one, ast.FunctionDef)
    }
    found: dict[str, str] = {}
    for name in reversed(SHARED):  # of a test that uses both, the first counts
        using = {name}
        while more := {one for one, arguments in functions.items() if arguments & using and one not in using}:
            using |= more
        found |= dict.fromkeys(using - {name}, name)
    return found
