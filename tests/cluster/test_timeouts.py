"""How long a run waits: what goes together, and what BENCH_TIMEOUTS may say."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from places import ROOT

from bench.cli.commands.running import launch_of
from bench.cluster.timeouts import RULES, Timeouts, chosen
from bench.core.settings import InputError
from bench.runner.launch import Launch

BENCH = ROOT / "bench"


def test_ranks_end_before_others_take_their_cells_whatever_the_factor() -> None:
    """What Leases and guards rely on; rules name fields, and every field is a number of seconds above 0."""
    for factor in (0.01, 0.1, 1 / 3, 1, 7, 1000):
        made = Timeouts().scaled(factor)
        assert made.orphan + 2 * made.beat + made.touch < made.lease, "as a guard and another run count"
        assert made.orphan >= 3 * made.touch and made.lease >= 6 * made.touch and made.silence >= 2 * made.beat
        assert made.agent_gone >= 3 * made.agent_beat and made.agent_stop > made.end
        assert all(value > 0 for value in vars(made).values())
        assert vars(made) == pytest.approx({name: value * factor for name, value in vars(Timeouts()).items()})
    names = {one.name for one in fields(Timeouts)}
    assert {name for less, _, more, _ in RULES for name in (less, more)} <= names


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(map(str, rule[:3])))
def test_each_rule_is_checked(rule) -> None:
    less, times, more, why = rule
    short = getattr(Timeouts(), less) * times * 0.99
    with pytest.raises(ValueError, match=f"{more}: found {short:g}, expected at least .* {less}: {re.escape(why)}"):
        replace(Timeouts(), **{more: short})


def test_the_variable_is_a_factor_or_fields_and_a_timeout_of_ones_own_counts_more() -> None:
    assert chosen({}) == chosen({"BENCH_TIMEOUTS": ""}) == chosen({"BENCH_TIMEOUTS": "1"}) == Timeouts()
    assert chosen({"BENCH_TIMEOUTS": "0.1"}) == Timeouts().scaled(0.1)
    assert chosen({"BENCH_TIMEOUTS": '{"lease": 300, "probe": 7.5}'}) == Timeouts(lease=300, probe=7.5)
    assert chosen({"BENCH_TIMEOUTS": "2"}, timeout=30) == replace(Timeouts().scaled(2), timeout=30)
    assert Timeouts(**json.loads(json.dumps(asdict(Timeouts(lease=300))))) == Timeouts(lease=300), (
        "as group.json has it"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fast", "found 'fast', expected a factor from 0.01 to 1000, or fields as {\"lease\": 300}"),
        ("0", "found '0', expected a factor from 0.01 to 1000"),
        ("-1", "found '-1', expected a factor"),
        ("NaN", "found 'NaN', expected a factor"),
        ("true", "found 'true', expected a factor"),
        ("[1]", "found '[1]', expected a factor"),
        ('{"leese": 300}', "unknown field: found 'leese', expected one of agent_beat, "),
        ('{"leese": 300}', "(did you mean lease?)"),
        ('{"lease": "300"}', "lease: found '300', expected seconds from 1e-06 to 1e+06"),
        ('{"lease": true, "echo": -1}', "environment: BENCH_TIMEOUTS: echo: found -1, expected seconds"),
        ('{"lease": NaN}', "lease: found nan, expected seconds"),
        ('{"lease": 20}', "lease: found 20, expected at least 45, 1.5 x orphan: ranks have to end before another run"),
    ],
)
def test_what_the_variable_cannot_be_is_said_with_what_it_can(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        chosen({"BENCH_TIMEOUTS": text})
    assert said in str(caught.value)
    assert all(line.startswith("environment: BENCH_TIMEOUTS: ") for line in str(caught.value).splitlines())


def test_a_launch_takes_them_from_where_it_runs(tmp_path: Path) -> None:
    assert Launch(tmp_path, worker="none").timeouts == Timeouts()
    assert launch_of(tmp_path, None, "pdsh", None, Timeouts(lease=300)).timeouts.lease == 300


@pytest.mark.parametrize(
    "words", [["run", "quickstart", "--dry-run"], ["preflight", "quickstart"], ["node-agent"], ["doctor"]]
)
def test_every_command_that_waits_reads_the_variable(words: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("BENCH_TIMEOUTS", '{"lease": 20}')
    command = [sys.executable, "-m", "bench", *words, "--results", str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "BENCH_TIMEOUTS: lease: found 20" in done.stderr, done.stderr
    assert not (tmp_path / "results").exists()


def test_no_field_is_forgotten() -> None:
    """Each is read somewhere in bench/."""
    read = {
        node.attr
        for file in BENCH.rglob("*.py")
        if file.name != "timeouts.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute)
    }
    assert {one.name for one in fields(Timeouts)} <= read


def test_a_guard_reads_them_without_what_is_slow_to_import() -> None:
    script = "import sys, bench.cluster.rank_supervisor; print(*{'torch', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
