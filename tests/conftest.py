"""Fixtures of all tests. Nothing here imports torch: a file that needs no model starts without it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from matrices import Expand, defaults, predivided
from scheduling import SHARED, scope

if TYPE_CHECKING:
    from finished import Finished
    from ranks import Ranks

    from bench.matrix.cell import Cell

GPUS = ("nvidia0", "kfd", "dxg")  # devices of CUDA, of ROCm, and of WSL

if not any(Path("/dev", name).exists() for name in GPUS):
    os.environ.setdefault("TRITON_INTERPRET", "1")  # triton reads it when it is imported


def pytest_itemcollected(item: pytest.Item) -> None:
    """Gives tests on warm ranks time: the first one waits for processes to start. Ranks have a limit of their own."""
    if set(SHARED) & set(getattr(item, "fixturenames", ())) and item.get_closest_marker("timeout") is None:
        item.add_marker(pytest.mark.timeout(1800))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts what may take long first: with several processes nothing long begins when all others are done."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keeps together what scheduling.py says."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    return Scheduler(config, log)


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Groups of ranks that serve cells and functions of tests, started when they are needed."""
    from ranks import Ranks

    with Ranks(tmp_path_factory.mktemp("ranks")) as made:
        yield made


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Finished:
    """One `bench run` from its start to its boards, and another one that finds everything done."""
    from finished import finish

    return finish(tmp_path_factory.mktemp("finished"), checkpoint)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Models this small lose more to a second thread than it gives."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained encoder that knows the built-in language, as a folder of a user's would be."""
    import torch
    from tiny_models import ENCODER
    from transformers import RobertaConfig, RobertaForMaskedLM

    from bench.models import toy

    folder = tmp_path_factory.mktemp("checkpoint") / "tiny-encoder"
    tokens = toy.tokenizer("toy-encoder")
    torch.manual_seed(3)
    config = RobertaConfig(**{**ENCODER, "vocab_size": len(tokens)}, type_vocab_size=1, pad_token_id=1)
    model = RobertaForMaskedLM(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(5)  # far from zero, so that gradients are too
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


@pytest.fixture
def write_matrix(tmp_path: Path, checkpoint: Path) -> Callable[..., Path]:
    """A matrix file whose defaults are one small cell on the tiny checkpoint; other keys go in as they are."""

    def write(axes: dict[str, Any] | None = None, name: str = "matrix", **keys: Any) -> Path:
        file = tmp_path / f"{name}.yaml"
        content = {"defaults": defaults(checkpoint), "axes": axes or {"seed": 0}, **keys}
        file.write_text(json.dumps(content))  # JSON is YAML
        return file

    return write


@pytest.fixture
def expand(write_matrix: Callable[..., Path]) -> Expand:
    def made(axes: dict[str, Any] | None = None, **keys: Any) -> list[Cell]:
        from bench.matrix import matrix

        return matrix.load(str(write_matrix(axes, **keys))).expand()

    return made


@pytest.fixture
def shape(tmp_path: Path) -> dict[str, str]:
    """A backbone of which nothing but its config is there: preflight reads no weights."""
    folder = tmp_path / "shape"
    folder.mkdir()
    config = {"model_type": "roberta", "num_hidden_layers": 2, "architectures": ["RobertaForMaskedLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    return {"path": str(folder)}


@pytest.fixture
def halved(tmp_path: Path) -> dict[str, str]:
    """A fault of DeepSpeed 0.19.8: all-reduced ZeRO-3 gradients are divided by this factor and, where it is the number
    of ranks, not multiplied again (stage3.py, `__avg_scatter_contiguous_grads`)."""
    return predivided(tmp_path, "halved", reduce_scatter=False)


@pytest.fixture
def refused(tmp_path: Path) -> dict[str, str]:
    """What DeepSpeed says it cannot do."""
    return predivided(tmp_path, "refused", reduce_scatter=True)
