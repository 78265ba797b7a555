"""Published numbers: that the files hold together, name what is ours, and claim no more than was read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml
from places import ROOT

from bench.core.settings import InputError, Problem
from bench.data.tasks import TASKS, parse_regime
from bench.models.backbones import BACKBONES
from bench.records import published
from bench.records.published import Figure

FIGURES = published.figures()
FILES = sorted((ROOT / "results" / "published").glob("*.yaml"))
# quantity and unit -> from, to
PLAUSIBLE = {
    ("score", "percent"): (50, 100),
    ("score", "fraction"): (0.5, 1),
    ("gain over the state-of-the-art prompt tuning methods", "percent"): (0, 10),
    ("gain over LPT", "percent"): (0, 10),
    ("gain over standard prompt tuning", "percent"): (0, 10),
    ("trainable parameters", "parameters"): (1e3, 1e9),
    ("training time", "seconds"): (10, 1e5),
    ("training time per sample", "seconds"): (1e-3, 10),
    ("inference time per sample", "seconds"): (1e-3, 10),
    ("training speed-up", "percent"): (0, 100),
    ("training speed-up over full fine-tuning, at most", "percent"): (0, 100),
    ("inference slow-down against full fine-tuning, at least", "percent"): (0, 100),
    ("inference slow-down against full fine-tuning, at most", "percent"): (0, 100),
    ("best layer", "layer"): (1, 24),
    ("best epoch", "epoch"): (1, 120),
}
# source -> what it is quoted with by others, where it could not be read itself; everything else was
SECOND_HAND = {
    "adapterdrop": {
        "training speed-up over full fine-tuning, at most",
        "inference slow-down against full fine-tuning, at least",
        "inference slow-down against full fine-tuning, at most",
        "training speed-up",
    },
    "lpt": {"best layer"},
}


def place(figure: Figure) -> tuple[Any, ...]:
    """What a number is of."""
    table = (figure.key, figure.locator, figure.quantity, figure.metric, figure.backbone, figure.regime)
    return (*table, figure.method, figure.task)


def test_every_file_is_shipped_named_by_its_key_and_has_no_number_twice() -> None:
    assert [file.stem for file in FILES] == sorted({figure.key for figure in FIGURES}) and len(FILES) == 8
    exact = [(*place(figure), figure.printed) for figure in FIGURES]
    assert len(set(exact)) == len(exact)
    assert [figure.key for figure in FIGURES] == sorted(figure.key for figure in FIGURES)


def test_numbers_are_as_printed_and_plausible() -> None:
    for figure in FIGURES:
        low, high = PLAUSIBLE[figure.quantity, figure.unit]
        assert low <= figure.value <= high, figure
        assert figure.deviation is None or (figure.quantity == "score" and figure.deviation < 20), figure
    printed = {figure.printed: (figure.value, figure.deviation) for figure in FIGURES}
    assert printed["65.7±19"] == (65.7, 19) and printed["1.55M"] == (1_550_000, None) and printed["71.0"] == (71, None)


def test_averages_are_those_of_the_numbers_beside_them() -> None:
    """To 0.06: of numbers rounded to 0.1 the mean is known to 0.05, and so is a printed one, yet none is as far off."""
    recomputed = 0
    cells = {place(figure): figure.value for figure in FIGURES}
    for figure in (figure for figure in FIGURES if figure.average_of):
        beside = [cells.get((*place(figure)[:-1], task)) for task in figure.average_of]
        if not any(value is None for value in beside):
            recomputed += 1
            assert abs(mean(beside) - figure.value) <= 0.06 + 1e-9, (figure, mean(beside))
    assert recomputed == 12 + 21 + 7 + 1 + 2, "IDPG's rows, ID-SPAM's on RoBERTa-large, LPT's on base, SuperGLUE's"


def test_only_what_is_listed_here_is_second_hand() -> None:
    for figure in FIGURES:
        quoted = figure.quantity in SECOND_HAND.get(figure.key, set())
        assert figure.evidence == ("second_hand" if quoted else "read"), figure


def test_compared_cells_are_named_as_ours_are() -> None:
    from bench.matrix import field_parsers

    problems: list[Problem] = []
    for one in (one for figure in FIGURES for one in figure.compare):
        assert one.backbone in BACKBONES and (one.task is None or one.task in TASKS), one
        assert one.regime is None or parse_regime(one.regime, "regime", problems), problems
        depth = {"depth": 12} if one.method["kind"] == "late_prompt" else {}
        assert field_parsers.parser("method")({**depth, **one.method}, "method", problems), problems


def test_every_comparison_is_flagged_and_no_score_lacks_one() -> None:
    """Where a score's backbone, task and method are ours, cells of ours stand beside it, and differ or do not."""
    for file in FILES:
        source = yaml.safe_load(file.read_text("utf-8"))
        for figure in published.load(file):
            assert all(one.same_protocol != bool(one.differs) for one in figure.compare), figure
            backbone = (figure.backbone or "").lower().removesuffix("-v2")
            task, method = source["tasks"].get(figure.task), source["methods"][figure.method]
            if figure.quantity == "score" and task and method and backbone in BACKBONES:
                (one,) = figure.compare
                assert (one.backbone, one.task, one.method) == (backbone, task, method)


def test_what_is_called_the_same_protocol_is() -> None:
    """Parameters of LPT's generator, which follow from its shape. No score is: of none the whole protocol is known."""
    from bench.methods.modules.prompt_encoders import Naive

    same = [figure for figure in FIGURES for one in figure.compare if one.same_protocol]
    assert {(figure.key, figure.method, figure.printed) for figure in same} == {
        ("lpt", "LPT w/ NPG", "792K"),
        ("lpt", "LPT w/ NPG", "791680"),
    }
    for figure in same:
        (one,) = figure.compare
        generator = Naive(one.method["length"], 1024, one.method["bottleneck"], 0.0, causal=False)
        count = sum(parameter.numel() for parameter in generator.parameters())
        assert round(count, -3 if "K" in figure.printed else None) == figure.value, count


def reasons(key: str, regime: str, method: str, task: str) -> str:
    (figure,) = [f for f in FIGURES if (f.key, f.regime, f.method, f.task) == (key, regime, method, task)]
    return "; ".join(figure.compare[0].differs)


def test_caveats_are_beside_the_numbers_they_are_about() -> None:
    suspect = "may start from an NLI checkpoint, not stated"
    for method in ("Prompt-tuning (5)", "Prompt-tuning-134", "S-IDPG-PHM", "S-IDPG-DNN"):
        assert all(suspect in reasons("idpg", "full data", method, task) for task in ("RTE", "QNLI", "MRPC"))
        assert suspect not in reasons("idpg", "full data", method, "MR")
    assert suspect not in reasons("idpg", "full data", "RoBERTa fine-tuning", "RTE")
    few_shot = [f for f in FIGURES if f.key == "idpg" and (f.regime or "").startswith("few-shot") and f.compare]
    assert len(few_shot) == 3 * 5 * 8, "of ten tasks we lack CR and STS-B; of seven methods EFL and M-IDPG"
    assert all("starts from an MNLI checkpoint (roberta.large.mnli)" in f.compare[0].differs for f in few_shot)
    tuned = [f for f in FIGURES if f.key == "p_tuning_v2" and f.quantity == "score"]
    assert all("best epoch chosen on the reported set" in f.compare[0].differs for f in tuned) and len(tuned) == 10
    late = [f for f in FIGURES if f.key == "id_spam" and f.method == "LPT" and f.compare]
    assert all(any("another implementation of LPT" in why for why in f.compare[0].differs) for f in late) and late


GOOD: dict[str, Any] = {
    "key": "paper",
    "title": "A paper",
    "where": "arXiv 0000.00000",
    "tasks": {"SST-2": "sst2", "CR": None},
    "methods": {"PT": {"kind": "prompt_tuning"}, "EFL": None},
    "tables": [
        {
            **{"locator": "table 1", "evidence": "read", "quantity": "score", "unit": "percent", "metric": "accuracy"},
            **{"split": "test", "seeds": 3, "backbone": "RoBERTa-large", "regime": "16 a class", "average": "avg"},
            "columns": ["SST-2", "CR", "avg"],
            "rows": {"PT": ["90.0±1.5", 80.5, 85.2], "EFL": [91, None, None]},
            "compare": {"backbone": "roberta-large", "regime": {"per_class": 16}, "same_protocol": False},
            "differs": [{"why": "linear head", "rows": ["PT"]}],
        }
    ],
}


def write(folder: Path, content: object) -> Path:
    file = folder / "paper.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    return file


def test_a_table_becomes_a_figure_for_each_number(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    found = published.figures(tmp_path)
    assert [(f.method, f.task, f.printed, f.value, f.deviation) for f in found] == [
        ("PT", "SST-2", "90.0±1.5", 90.0, 1.5),
        ("PT", "CR", "80.5", 80.5, None),
        ("PT", "avg", "85.2", 85.2, None),
        ("EFL", "SST-2", "91", 91.0, None),
    ]
    assert [f.average_of for f in found] == [(), (), ("SST-2", "CR"), ()]
    (one,) = found[0].compare
    assert (one.task, one.regime, one.method) == ("sst2", {"per_class": 16}, {"kind": "prompt_tuning"})
    assert (one.same_protocol, one.differs) == (False, ("linear head",))
    assert not any(f.compare for f in found[1:]), "no task of ours, a mean, no method of ours"


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        (["titel"], "x", "titel: unknown key: found 'titel', expected one of"),
        (["tables", 0, "locater"], "x", "tables[0].locater: unknown key: found 'locater', expected one of"),
        (["tables", 0, "locator"], "", "tables[0].locator: found ''"),
        (["tables", 0, "evidence"], "heard", "tables[0].evidence: found 'heard'"),
        (["tables", 0, "seeds"], 0, "tables[0].seeds: found 0"),
        (["tables", 0, "compare", "regime"], {"total": "x"}, "tables[0].compare.regime: found {'total': 'x'}"),
        (["tables", 0, "compare", "regimes"], 1, "found 'regimes', expected one of backbone, regime, same_protocol"),
        (["tables", 0, "rows", "PT"], [1, 2], "tables[0].rows.PT: found 2 numbers, expected 3"),
        (["tables", 0, "rows", "PT", 0], "90,0", "tables[0].rows.PT[0]: found '90,0', expected a number"),
        (["tables", 0, "rows", "PT", 1], True, "tables[0].rows.PT[1]: found True, expected a number"),
        (["tables", 0, "rows", "new"], [1, 2, 3], "methods.new: missing, but a table has it"),
        (["methods", "old"], None, "methods.old: found in no table"),
        (["tasks", "MR"], "mr", "tasks.MR: found in no table"),
        (["tables", 0, "columns", 0], "SST2", "tasks.SST2: missing, but a table has it"),
        (["tables", 0, "average"], "mean", "tables[0].average: found 'mean', expected one of"),
        (
            ["tables", 0, "differs", 0, "rows"],
            ["LPT"],
            "tables[0].differs[0].rows: found 'LPT', expected one of EFL, PT",
        ),
        (["tables", 0, "compare", "same_protocol"], True, "tables[0].compare.same_protocol: found True, expected"),
        (["tables", 0, "differs"], [], "tables[0].compare.same_protocol: found False, expected"),
    ],
)
def test_a_malformed_file_gives_one_error_with_file_and_place(
    tmp_path: Path, where: list[Any], value: object, expected: str
) -> None:
    content: Any = yaml.safe_load(yaml.safe_dump(GOOD))
    inner = content
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    file = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        published.figures(tmp_path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}: ") for line in lines)
    assert any(expected in line for line in lines), lines


@pytest.mark.parametrize("text", ["", "[1, 2]", "key: a\nkey: b", "key: [", "key: \x00"])
def test_what_is_no_mapping_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "paper.yaml").write_text(text)
    with pytest.raises(InputError, match="paper.yaml: YAML: "):
        published.figures(tmp_path)


def test_reading_needs_neither_torch_nor_deepspeed() -> None:
    script = """
import sys
from bench.records import published
published.figures()
print({'torch', 'deepspeed'} & {*sys.modules})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
