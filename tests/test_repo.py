"""What holds for the repository as a whole."""

from __future__ import annotations

import ast
import functools
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent
TOP_LEVEL = {
    *("pyproject.toml", "README.md", "bench", "ds_configs", "launch", "results", "tests"),
    *("LICENSE", ".gitignore", ".ci"),
}
# a package of ours -> those of ours it must not import at the top of a file or anywhere else
FORBIDDEN = {
    "records": {"cells", "matrix", "methods", "perturb", "landscape", "stack", "engine", "train", "launch", "board"},
    "published": {
        *("cells", "matrix", "tasks", "backbones", "methods", "perturb", "landscape", "stack", "engine", "train"),
        *("launch", "board"),
    },
    "board": {"cells", "matrix", "methods", "perturb", "landscape", "stack", "engine", "train", "launch", "tasks"},
    "stack": {"cells", "matrix", "methods", "perturb", "prompts", "engine", "train", "launch", "board", "data"},
    "prompts": {"cells", "matrix", "methods", "perturb", "engine", "train", "launch", "board", "data"},
    "methods": {"cells", "matrix", "perturb", "engine", "train", "launch", "board", "data"},
    "vocabulary": {"stack", "methods", "perturb", "cells", "engine", "train"},
    "batches": {"cells", "matrix", "methods", "perturb", "engine", "train", "launch", "board", "data"},
    "views": {"cells", "matrix", "methods", "perturb", "engine", "train", "launch", "board", "data"},
    "features": {"matrix", "methods", "perturb", "train", "launch", "worker", "board"},
    "loader": {"matrix", "methods", "perturb", "train", "launch", "worker", "board"},
    "outcomes": {"matrix", "methods", "perturb", "train", "launch", "worker", "board"},
    "perturb": {"cells", "matrix", "methods", "engine", "train", "launch", "board", "data"},
    "kernels": {"cells", "matrix", "methods", "perturb", "stack", "engine", "train", "launch", "board", "data"},
    "landscape": {"matrix", "methods", "perturb", "train", "launch", "worker", "board"},
    "cells": {"matrix", "engine", "train", "launch", "board"},
    "fields": {"matrix", "engine", "train", "launch", "board"},
    "matrix": {"engine", "train", "launch", "board"},
    "engine": {"matrix", "train", "launch", "board", "data"},
    "train": {"matrix", "launch", "worker", "board"},
    "worker": {"matrix", "launch", "board"},
    "preflight": {"session", "board"},
    "doctor": {
        *("cells", "matrix", "methods", "perturb", "stack", "engine", "train", "launch", "worker", "board"),
        *("data", "backbones", "kernels"),
    },
    "launch": {"matrix", "engine", "train", "worker", "board"},
}
# a library -> the only files of ours that import it
KEPT_IN = {
    "deepspeed": {"engine/engine.py", "engine/optimizer.py", "engine/world.py", "engine/zero3.py"},
    "triton": {"kernels/triton/ascent.py", "kernels/triton/noise.py", "kernels/triton/swap.py"},
    "matplotlib": {
        *("board/drawing.py", "board/figures.py"),
        *(f"board/plots/{name}.py" for name in ("__init__", "pareto", "rows", "scaling", "stacks", "strips")),
    },
    "peft": {"methods/peft.py"},
    "datasets": {"sources/hub.py", "sources/repository.py"},
    "pyarrow": {"sources/folder.py"},
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


@functools.cache
def imports(file: Path) -> frozenset[str]:
    """Full names of the modules a file imports, also inside functions, but not for types only."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


SOURCES = sorted((ROOT / "bench").rglob("*.py"))


def test_imports_follow_the_flow() -> None:
    wrong = []
    for file in SOURCES:
        part = file.relative_to(ROOT / "bench").parts[0].removesuffix(".py")
        for name in imports(file):
            words = name.split(".")
            if words[0] == "bench" and len(words) > 1 and words[1] in FORBIDDEN.get(part, ()):
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not wrong, wrong


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


def test_readmes_tree_is_the_repositorys() -> None:
    """Every file and folder the README's tree names is there, and every module of bench/ is named."""
    blocks = re.findall(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (tree,) = [block for block in blocks if block.startswith("bench/")]
    named: set[str] = set()
    folder = ""
    for line in tree.splitlines():
        name = line.split()[0]
        folder = "" if not line.startswith(" ") else folder
        named.add(folder + name)
        if not line.startswith(" "):
            folder = name
    assert all((ROOT / name).exists() for name in named), {n for n in named if not (ROOT / n).exists()}
    top = {f"bench/{p.name}{'/' if p.is_dir() else ''}" for p in (ROOT / "bench").iterdir() if p.name[0] != "_"}
    assert top <= named, top - named


# what a package outside the checkout does
OUTSIDE = """
import sys
sys.path.insert(0, {site!r})
import bench
from bench import board, environment, files, published, toy
from bench.board import claims
from bench.checkpoints import CONTENT, fingerprint
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
    more = 'from bench import matrix; assert len(matrix.load("quickstart").expand()) >= 36'
    assert_works(tmp_path / "site", more)
