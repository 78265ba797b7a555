"""Branch coverage by package: `python tests/benchmarks/coverage_table.py DEFAULT REST`, as launch/coverage.sh calls it.

DEFAULT and REST are data of coverage.py from the two tiers. Coverage is the share of branches taken; the last column
names the modules that the full tier alone reaches more than a tenth of.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

ADDED = 0.1  # share of a module's branches that only the full tier takes: from here on it is named


def branches(files: list[str]) -> dict[str, tuple[int, int]]:
    """Branches taken and all branches of each module of bench/, by the tests of all `files` together."""
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder, "data"), Path(folder, "report.json")
        coverage = [sys.executable, "-m", "coverage"]
        quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([*coverage, "combine", "--keep", f"--data-file={data}", *files], **quiet)
        subprocess.run([*coverage, "json", f"--data-file={data}", "-o", str(report)], **quiet)
        found = json.loads(report.read_bytes())["files"]
    return {
        name: (one["summary"]["covered_branches"], one["summary"]["num_branches"])
        for name, one in found.items()
        if one["summary"]["num_branches"]
    }


def package(module: str) -> str:
    """`bench/board/writers/csv_table.py` is of bench/board, `bench/__main__.py` of bench."""
    return "/".join(Path(module).parts[: 2 if len(Path(module).parts) > 2 else 1])


def main() -> None:
    default, rest = sys.argv[1:3]
    alone, both = branches([default]), branches([default, rest])
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    named: dict[str, list[str]] = defaultdict(list)
    for module, (taken, total) in both.items():
        before = alone.get(module, (0, total))[0]
        for key in (package(module), "all"):
            sums[key] = [one + more for one, more in zip(sums[key], (before, taken, total), strict=True)]
        if (taken - before) / total > ADDED:
            named[package(module)].append(f"{Path(module).stem} {before / total:.0%}")
    print(f"{'package':<24}{'branches':>9}{'default':>9}{'both':>7}  the full tier adds to")
    for name, (before, taken, total) in sorted(sums.items(), key=lambda item: (item[0] == "all", item[0])):
        print(f"{name:<24}{total:>9}{before / total:>9.1%}{taken / total:>7.1%}  {', '.join(named[name])}")


if __name__ == "__main__":
    main()
