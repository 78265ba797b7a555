"""What holds for the repository as a whole."""

from __future__ import annotations

import ast
import functools
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from places import ROOT

TOP_LEVEL = {
    *("pyproject.toml", "README.md", "bench", "ds_configs", "launch", "results", "tests"),
    *("LICENSE", ".gitignore", ".ci"),
}
# the packages of bench/, the highest row first: a package imports from rows below its own only
ROWS = (
    ("cli",),
    ("checks",),
    ("training", "runner"),
    ("matrix", "profiler"),
    ("regularizers",),
    ("methods", "data", "cluster", "board"),
    ("models", "kernels", "records"),
    ("core",),
)
# a library -> the only files of ours that import it
KEPT_IN = {
    "deepspeed": {f"training/engine/{name}.py" for name in ("engine", "optimizer", "world", "zero3")},
    "triton": {f"kernels/triton/{name}.py" for name in ("ascent", "noise", "swap")},
    "matplotlib": {
        f"board/figures/{name}.py"
        for name in ("__init__", "drawing", "figures", "pareto", "rows", "scaling", "stacks", "strips")
    },
    "peft": {"methods/modules/peft_configs.py"},
    "datasets": {"data/sources/hub.py", "data/sources/repository.py"},
    "pyarrow": {"data/sources/folder.py"},
}


STAGES = {
    **{f"zero{stage}": stage for stage in range(4)},
    **{"zero2_offload": 2, "zero3_offload": 3, "zero3_nvme": 3, "zeropp": 3},
}
ADDED = {
    "zero2_offload": {"offload_optimizer"},
    "zero3_offload": {"offload_optimizer", "offload_param"},
    "zero3_nvme": {"offload_optimizer", "offload_param"},
    "zeropp": {"zero_hpz_partition_size", "zero_quantized_weights", "zero_quantized_gradients"},
}


SOURCES = sorted((ROOT / "bench").rglob("*.py"))
MODULES = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in SOURCES}


@functools.cache
def imports(file: Path) -> frozenset[str]:
    """Full names of the modules a file imports: at its top, inside functions, and for types only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in names}
    return frozenset(found)


ROW = {name: row for row, names in enumerate(ROWS) for name in names}


def test_the_packages_are_those_of_the_rows() -> None:
    assert {file.name for file in (ROOT / "bench").glob("*.py")} == {"__init__.py", "__main__.py"}
    assert {file.relative_to(ROOT / "bench").parts[0] for file in SOURCES if file.parent != ROOT / "bench"} == {*ROW}


def test_a_package_imports_only_from_rows_below_its_own() -> None:
    wrong = []
    for file in SOURCES:
        package, *_ = file.relative_to(ROOT / "bench").with_suffix("").parts
        for name in imports(file):
            words = name.split(".")
            if words[0] != "bench" or len(words) == 1 or package in (words[1], "__main__"):
                continue
            if words[1] in ROW and ROW[words[1]] <= ROW.get(package, len(ROWS)):
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not wrong, wrong


def test_no_modules_import_one_another() -> None:
    """Nor in a circle over others."""
    left = {name: imports(file) & MODULES.keys() - {name} for name, file in MODULES.items()}
    while done := {name for name, needed in left.items() if not needed & left.keys()}:
        left = {name: needed for name, needed in left.items() if name not in done}
    assert not left, {name: sorted(needed & left.keys()) for name, needed in left.items()}


@pytest.mark.parametrize("library", KEPT_IN)
def test_libraries_are_kept_in_their_places(library: str) -> None:
    found = {
        str(file.relative_to(ROOT / "bench"))
        for file in SOURCES
        if any(name.split(".")[0] == library for name in imports(file))
    }
    assert found == KEPT_IN[library]


def test_ds_configs_differ_in_zero_optimization_only() -> None:
    configs = {file.stem: json.loads(file.read_text()) for file in (ROOT / "ds_configs").glob("*.json")}
    zero = {name: config.pop("zero_optimization") for name, config in configs.items()}
    assert {name: one["stage"] for name, one in zero.items()} == STAGES
    for name, one in zero.items():  # beside its stage's own settings only what its name says
        added = {key for key, value in one.items() if zero[f"zero{one['stage']}"].get(key) != value}
        assert added == ADDED.get(name, set()), name
    reference = configs.pop("zero0")
    for name, config in configs.items():
        assert config == reference, name
    for key in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping", "bf16", "fp16"):
        assert key in reference, f"{key} is missing: the files are complete"


def git(*arguments: str) -> list[str]:
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True).stdout.split()


def test_top_level_is_fixed() -> None:
    assert {Path(name).parts[0] for name in git("ls-files")} <= TOP_LEVEL


def test_files_of_bench_fit_on_a_few_screens() -> None:
    long = {str(file): n for file in SOURCES if (n := len(file.read_text().splitlines())) > 300}
    assert not long, long


# what a package outside the checkout does
OUTSIDE = """
import sys
sys.path.insert(0, {site!r})
import bench
from bench import board
from bench.board import claims
from bench.core import files
from bench.models import toy
from bench.models.checkpoints import CONTENT, fingerprint
from bench.records import environment, published
assert bench.__file__.startswith({site!r}), bench.__file__
assert environment.commit() == (None, None)
assert published.figures()
assert claims.load()
for name in toy.KINDS:
    assert fingerprint(toy.folder(name), CONTENT) == toy.pretraining(toy.folder(name)).fingerprint, name
assert board.page(board.Contents([])).startswith("<!doctype html>")
{more}
print(*files.shipped_names("ds_configs", ".json"))
"""


def assert_works(site: Path, more: str) -> None:
    script = OUTSIDE.format(site=str(site), more=more)
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, cwd=site, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(STAGES)


def test_the_files_of_a_wheel_work_outside_the_checkout_and_without_git(tmp_path: Path) -> None:
    """The test copies what a build would take, and builds nothing."""
    for file in WheelBuilder(str(ROOT)).recurse_included_files():
        copy = tmp_path / "site" / file.distribution_path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, copy)
    assert_works(tmp_path / "site", 'assert "quickstart" in files.shipped_names("matrices", ".yaml")')


@pytest.mark.full
def test_a_wheel_works_outside_the_checkout_and_without_git(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = (tmp_path / "dist").glob("promptzero-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    more = 'from bench.matrix import matrix; assert len(matrix.load("quickstart").expand()) >= 36'
    assert_works(tmp_path / "site", more)
