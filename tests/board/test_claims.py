"""Verdicts on claims follow from records: what is planted is found, noise decides nothing, faults are named."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from runs import call
from sample_records import record

from bench.board import claims
from bench.board.analysis import statistics
from bench.board.claims.claim import METHODS, Claim
from bench.board.claims.matching import NEUTRAL
from bench.core.settings import InputError
from bench.records import published, store
from bench.records.record import Environment, Failure, Record, Surface, Surfaces

MACHINE = Environment(
    commit=None, dirty=None, versions={}, hosts=("h",), accelerator="cpu", threads=1, launcher="deepspeed"
)
LATE = {"kind": "late_prompt", "generator": "naive", "depth": 3}
FULL = {"kind": "full"}
PROMPT = {"kind": "prompt_tuning", "length": 5}
NOISE = {"kind": "noise", "space": "embeddings"}
TASKS = ("sst2", "trec", "subj")
STATED = {
    "key": "late-better",
    "claim": "late is better",
    "source": "nowhere",
    "says": None,
    "quantity": "test",
    "direction": "higher",
    "differs": "method",
    "first": {"method": {"kind": "late_prompt"}},
    "second": {"method": {"kind": "full"}},
}


def claim(**changes: Any) -> Claim:
    return Claim.model_validate(STATED | changes)


def made(
    method: dict[str, Any],
    values: Iterable[float],
    task: str = "sst2",
    regularizer: dict[str, Any] | None = None,
    quantity: str = "test",
    machine: Environment | None = MACHINE,
    **cell: Any,
) -> list[Record]:
    """A record for each seed, with its `quantity`: a score in points, or whatever it is."""
    regularizer = regularizer or {"kind": "none", "space": None}
    base = record(task=task, method=method["kind"], regularizer=regularizer["kind"])
    found = []
    for seed, value in enumerate(values):
        content = {**base.cell, "method": method, "regularizer": regularizer, "seed": seed, **cell}
        name = f"{task}.{json.dumps([method, regularizer, cell, machine and machine.hosts])}.s{seed}"
        one = base.model_copy(update={"name": name, "cell": content, "environment": machine})
        found.append(measured(one, quantity, value))
    return found


def measured(one: Record, quantity: str, value: float) -> Record:
    assert one.quality and one.cost
    if quantity in ("test", "spread"):
        return one.model_copy(update={"quality": one.quality.model_copy(update={"test": value / 100})})
    if quantity == "tokens_per_second":
        return one.model_copy(update={"cost": one.cost.model_copy(update={"tokens_per_second": value})})
    if quantity == "sharpness":
        surface = Surface(radius=1.0, loss=((0.0,),), rise=value, slope=None, curvature=None)
        return one.model_copy(update={"landscape": Surfaces(examples=1, embeddings=surface)})
    memory = [row.model_copy(update={"peak_allocated_bytes": round(value)}) for row in one.memory]
    return one.model_copy(update={"memory": tuple(memory)})


def failed(one: Record, status: str) -> Record:
    failure = Failure(phase="train", rank=0, host="h", exception="NaN")
    return one.model_copy(update={"status": status, "failure": failure, "quality": None, "cost": None, "memory": ()})


def verdict(stated: Claim, found: Iterable[Record]) -> claims.Verdict:
    (one,) = claims.verdicts([stated], found)
    return one


def normal(mean: float, deviation: float, seeds: int, label: str) -> list[float]:
    draw = random.Random(label)
    return [draw.gauss(mean, deviation) for _ in range(seeds)]


def both(
    first: tuple[float, float], second: tuple[float, float], quantity: str = "test", seeds: int = 6
) -> list[Record]:
    """Late prompts and full tuning on three tasks, each with a mean and a deviation."""
    return [
        one
        for task in TASKS
        for method, (mean, deviation) in ((LATE, first), (FULL, second))
        for one in made(
            method, normal(mean, deviation, seeds, f"{task}{method['kind']}{mean}"), task, quantity=quantity
        )
    ]


PLANTED = {  # two sides of which the first is lower, and two that are the same
    "test": ((70, 1), (75, 1), (70.0001, 1)),
    "spread": ((70, 0.2), (75, 4), (75.0001, 0.2)),
    "sharpness": ((2, 0.1), (3, 0.1), (2.0001, 0.1)),
    "tokens_per_second": ((1000, 30), (2000, 60), (1000.0001, 30)),
    "peak_bytes": ((10_000, 1), (20_000, 1), (10_000.0001, 1)),
}


@pytest.mark.parametrize("quantity", PLANTED)
def test_what_is_planted_is_found_whichever_way_it_is_claimed(quantity: str) -> None:
    low, high, same = PLANTED[quantity]
    found = both(low, high, quantity)
    lower, higher = (claim(quantity=quantity, direction=direction) for direction in ("lower", "higher"))
    one, other = verdict(lower, found), verdict(higher, found)
    assert (one.answer, other.answer) == ("supported", "contradicted"), one
    assert one.estimate == other.estimate and one.estimate.interval
    assert one.estimate.interval.low <= one.estimate.effect <= one.estimate.interval.high  # type: ignore[operator]
    assert one.directions == (0, 3) and len(one.records) == 36 and one.tasks == sorted(TASKS)
    undecided = verdict(lower, both(low, same, quantity))
    assert (undecided.answer, undecided.reason) == ("not decided yet", "the interval contains no effect")


def test_effects_are_means_over_settings_of_differences_and_of_ratios() -> None:
    found = made(LATE, [80, 82, 84], "sst2") + made(FULL, [79, 80, 84], "sst2")
    found += made(LATE, [60, 60, 66], "trec") + made(FULL, [60, 61, 62], "trec")
    assert verdict(claim(), found).estimate.effect == pytest.approx(((1 + 2 + 0) / 3 + (0 - 1 + 4) / 3) / 2)
    quick = made(LATE, [200, 200, 200], "sst2", quantity="tokens_per_second")
    quick += made(FULL, [100, 100, 50], "sst2", quantity="tokens_per_second")
    one = verdict(claim(quantity="tokens_per_second", tasks=1), quick)
    assert one.estimate.effect == pytest.approx(16 ** (1 / 3))


def test_a_margin_forgives_a_loss_and_no_more() -> None:
    found = both((74, 0.3), (75, 0.3))
    forgiving = claim(margin=1.94, because="so")
    assert verdict(claim(), found).answer == "contradicted"
    assert verdict(forgiving, found).answer == "supported"
    assert verdict(forgiving, both((71, 0.3), (75, 0.3))).answer == "contradicted"
    at_it = verdict(forgiving, both((73.06, 1), (75, 1)))
    assert (at_it.answer, at_it.reason) == ("not decided yet", "the interval contains the margin")


def test_too_little_evidence_decides_nothing_and_says_why() -> None:
    found = both((90, 1), (70, 1), seeds=2)
    one = verdict(claim(seeds=3), found)
    assert (one.answer, one.unused, one.records) == ("not decided yet", 3, [])
    assert one.reason == "no setting has 3 seeds of both sides that finished and know it"
    assert verdict(claim(seeds=2), found).answer == "supported"
    assert verdict(claim(seeds=2, tasks=4), found).reason == "3 of at least 4 tasks"
    alone = [record for record in found if record.cell["method"] == LATE]
    assert verdict(claim(), alone).reason == "no setting has cells of both sides"
    constant = [one for task in TASKS for m in (LATE, FULL) for one in made(m, [50, 50, 50], task)]
    assert verdict(claim(quantity="spread"), constant).reason.startswith("the effect cannot be computed")


def test_seeds_are_paired() -> None:
    shared = [60, 70, 80, 90, 65]  # what a seed draws moves both sides alike
    found = [
        *(one for task in TASKS for one in made(LATE, [value + 1 + i / 10 for i, value in enumerate(shared)], task)),
        *(one for task in TASKS for one in made(FULL, shared, task)),
    ]
    assert verdict(claim(), found).answer == "supported"
    apart = [one for one in found if (one.cell["method"] == LATE) == (one.cell["seed"] < 3)]
    assert verdict(claim(seeds=2), apart).reason.startswith("no setting has 2 seeds")


def test_a_line_with_fewer_seeds_takes_none_from_the_others() -> None:
    found = both((80, 1), (70, 1))
    short = [one for task in TASKS for one in made({**LATE, "depth": 2}, [10, 10, 10], task)]
    assert verdict(claim(), found + short).estimate == verdict(claim(), found).estimate


def test_only_cells_of_one_setting_are_compared() -> None:
    found = [one for task in TASKS for one in made(LATE, [90, 91, 92], task, steps=10)]
    found += [one for task in TASKS for one in made(FULL, [70, 71, 73], task, steps=20)]
    assert verdict(claim(), found).reason == "no setting has cells of both sides"


def test_scores_on_other_data_are_not_compared() -> None:
    def elsewhere(one: Record) -> Record:
        assert one.quality
        return one.model_copy(update={"quality": one.quality.model_copy(update={"data": "other"})})

    found = both((75, 1), (70, 1))
    mixed = [elsewhere(one) if one.cell["method"] == LATE else one for one in found]
    assert verdict(claim(), found).answer == "supported"
    assert verdict(claim(), mixed).answer == "not decided yet" and not verdict(claim(), mixed).units


def test_what_changes_costs_alone_counts_once_for_scores() -> None:
    once = both((75, 2), (74, 2))
    again = [
        one.model_copy(update={"name": f"{one.name}.again", "cell": {**one.cell, "zero": "zero3", "ranks": 8}})
        for one in once
    ]
    assert verdict(claim(), once).estimate == verdict(claim(), once + again).estimate
    speed = claim(quantity="tokens_per_second")
    assert len(verdict(speed, once + again).units) == 2 * len(verdict(speed, once).units) == 6
    other = [one for one in again if one.cell["method"] == LATE]  # whose setting has no full tuning
    assert len(verdict(claim(), once + other).records) == len(once)


def perturbed(**tuned: Any) -> list[Record]:
    found = []
    for task in TASKS:
        learning_rates = ({"recipe": {"learning_rate": rate}} for rate in (0.1, 0.2))
        for recipe, regularizer, mean in zip(learning_rates, (None, NOISE), (70, 80), strict=True):
            values = normal(mean, 1, 5, task)
            found += made(PROMPT | recipe, values, task, regularizer, **tuned)
    return found


PERTURBED = {
    "differs": "regularizer",
    "first": {"regularizer": {"kind": ["noise", "attack"]}},
    "second": {"regularizer": {"kind": "none"}},
}


def test_a_recipe_that_dev_chose_is_each_sides_own() -> None:
    chosen = {"role": "report", "setting": "s", "candidate": "c", "seeds": [9]}
    one = verdict(claim(**PERTURBED), perturbed(tuning=chosen))
    assert one.answer == "supported" and one.units[0].title.endswith("prompt_tuning")
    assert verdict(claim(**PERTURBED), perturbed()).reason == "no setting has cells of both sides"
    tried = perturbed(tuning={**chosen, "role": "tune"})
    assert verdict(claim(**PERTURBED), tried).reason == "no setting has cells of both sides"


def test_parts_are_tested_on_their_own_and_corrected_for_their_number() -> None:
    found = []
    for task in TASKS:
        found += made(PROMPT, normal(70, 1, 5, f"{task}plain"), task)
        found += made(PROMPT, normal(74, 1, 5, f"{task}noise"), task, NOISE)
        found += made(PROMPT, normal(70, 1, 5, f"{task}text"), task, {"kind": "noise", "space": "text"})
    spaces = {space: {"first": {"regularizer": {"space": space}}} for space in ("embeddings", "text")}
    one = verdict(claim(**PERTURBED, parts=spaces), found)
    embeddings, text = one.parts
    assert (embeddings.part, embeddings.answer, text.answer) == ("embeddings", "supported", "not decided yet")
    effects = [part.estimate.effect for part in one.parts]
    assert one.estimate.effect == pytest.approx(sum(effects) / 2) and len(one.records) == 45
    p_values = [part.estimate.p for part in one.parts]
    assert [part.corrected for part in one.parts] == pytest.approx([2 * min(p_values), max(p_values)])
    spread = verdict(claim(**PERTURBED, quantity="spread", parts=spaces), found)
    ratio = [part.estimate.effect for part in spread.parts]
    assert spread.estimate.effect == pytest.approx((ratio[0] * ratio[1]) ** 0.5) and spread.estimate.p is None


def test_what_diverges_does_not_look_stable() -> None:
    found = both((70, 0.2), (70, 4))
    steady = claim(quantity="spread", direction="lower")
    assert verdict(steady, found).answer == "supported"
    lost = [failed(one, "diverged") if one.cell["seed"] == 0 and one.cell["method"] == LATE else one for one in found]
    one = verdict(steady, lost)
    assert (one.answer, len(one.failed)) == ("not decided yet", 3)
    assert one.reason == "of the first side, which the figures speak for, more seeds are diverged"
    assert one.estimate.interval and one.estimate.interval.high < 1 and len(one.records) == 30
    text = claims.markdown([one])
    assert "cells of both sides that did not finish: 3, named below" in text and text.count("- diverged: [") == 3
    elsewhere = [failed(one, "node_lost") if one.cell["seed"] == 0 else one for one in found]
    assert verdict(steady, elsewhere).answer == "supported"
    as_many = [failed(one, "diverged") if one.cell["seed"] == 0 else one for one in found]
    assert verdict(steady, as_many).answer == "supported"
    everything = [failed(one, "diverged") if one.cell["method"] == LATE else one for one in found]
    assert len(verdict(steady, everything).failed) == 18


def test_memory_of_what_ran_out_of_it_is_not_less() -> None:
    found = both((100, 1), (200, 1), "peak_bytes")
    less = claim(quantity="peak_bytes", direction="lower")
    lost = [
        failed(one, "out_of_memory") if one.cell["seed"] == 0 and one.cell["method"] == LATE else one for one in found
    ]
    assert verdict(less, found).answer == "supported" and verdict(less, lost).answer == "not decided yet"


@pytest.mark.parametrize("quantity", ["peak_bytes", "tokens_per_second"])
def test_a_cost_of_zero_has_no_ratio(quantity: str) -> None:
    found = both((100, 1), (200, 1), quantity)
    nothing = [measured(one, quantity, 0) if one.cell["seed"] == 0 else one for one in found]
    less = claim(quantity=quantity, direction="lower")
    assert all(0 not in unit.seeds for unit in verdict(less, nothing).units)
    assert verdict(less, nothing).answer == "supported"


def test_costs_of_several_machines_are_not_compared() -> None:
    quick = claim(quantity="tokens_per_second")
    gpu = MACHINE.model_copy(update={"hosts": ("g",), "accelerator": "cuda"})

    def found(machine: Environment | None, other: Environment | None) -> list[Record]:
        sides = ((LATE, 900, machine), (FULL, 300, other))
        rows = ((task, *side) for task in TASKS for side in sides)
        return [
            one
            for task, method, mean, where in rows
            for one in made(method, normal(mean, 9, 4, task), task, None, "tokens_per_second", where)
        ]

    assert verdict(quick, found(MACHINE, MACHINE)).answer == "supported"
    nothing = "no setting has 3 seeds of both sides that finished and know it"
    assert verdict(quick, found(MACHINE, gpu)).reason == nothing
    assert verdict(quick, found(None, None)).reason == nothing
    twice = verdict(quick, found(MACHINE, MACHINE) + found(gpu, gpu))
    assert len(twice.units) == 6 and len({unit.title for unit in twice.units}) == 6


def test_selectors_tell_regimes_caches_and_prompts_apart() -> None:
    shipped = {one.key: one for one in claims.load()}
    full = {"total": None, "per_class": None, "fewglue": False}
    for regime, key in ((full, "lpt-full-data"), ("full", "lpt-full-data"), ({"total": 100}, "lpt-few-shot")):
        found = [
            one
            for task in TASKS
            for method, mean in ((LATE, 80), (FULL, 70))
            for one in made(method, normal(mean, 1, 4, task), task, regime=regime)
        ]
        decided = [v.claim.key for v in claims.verdicts(shipped.values(), found) if v.answer == "supported"]
        assert decided == [key]
    for cached, key in ((False, "lpt-speed-full"), (True, "lpt-cache-speed-full")):
        found = [
            one
            for task in TASKS
            for method, speed in ((LATE, 800), (FULL, 200))
            for one in made(method, [speed, speed + 1, speed], task, quantity="tokens_per_second", feature_cache=cached)
        ]
        decided = {
            v.claim.key
            for v in claims.verdicts(shipped.values(), found)
            if v.estimate.effect == pytest.approx(4, rel=0.01)
        }
        assert decided == {key}
    generated, ours = shipped["lpt-few-shot"].first, {**LATE, "generator": "none"}
    assert generated.holds({"method": LATE}) and not generated.holds({"method": ours})
    assert not generated.holds({"method": {**LATE, "depth": 0}}), "a prompt in front of the first layer is not late"


def test_shipped_claims_name_what_there_is_and_quote_what_was_published() -> None:
    from bench.matrix import hyperparameter_search
    from bench.methods import METHODS as REGISTRY
    from bench.methods.late_prompt import LatePrompt
    from bench.regularizers import SPACES, kinds_in

    stated = claims.load()
    assert {"ptp-spread", "ptp-mean", "ptp-landscape", "lpt-full-data", "lpt-many-prompts"} <= {
        one.key for one in stated
    }
    assert sorted(METHODS) == sorted(REGISTRY) and NEUTRAL == hyperparameter_search.NEUTRAL
    late, selector = LatePrompt.model_fields, type(stated[0].first.method).model_fields
    assert str(late["generator"].annotation) in str(selector["generator"].annotation)
    regularizer = str(type(stated[0].first.regularizer).model_fields)
    assert all(repr(name) in regularizer for space in SPACES for name in (space, *kinds_in(space)))
    gains = [figure.printed for figure in published.figures() if figure.key == "ptp"]
    said = next(one.says for one in stated if one.key == "ptp-mean")
    assert gains and said and all(f"{gain}%" in said for gain in gains)
    assert all(one.because for one in stated if one.margin)


FAULTS = {
    "claims[0].quantty: unknown key: found 'quantty', expected one of": {"quantty": "test"},
    "claims[0].first.method.kind: found 'late_promt', expected one of": {"first": {"method": {"kind": "late_promt"}}},
    "did you mean late_prompt?": {"first": {"method": {"kind": "late_promt"}}},
    "did you mean tokens_per_second?": {"quantity": "token_per_second"},
    "claims[0].first.regularizer.kind[0]: found 'nose'": {"first": {"regularizer": {"kind": "nose"}}},
    "claims[0].where.regime: found 'fewshot'": {"where": {"regime": "fewshot"}},
    "claims[0].margin: found 2, expected none of a ratio": {"quantity": "spread", "margin": 2, "because": "so"},
    "claims[0].because: found None, expected the reason": {"margin": 2},
    "claims[0].seeds: found 1, expected": {"seeds": 1},
    "claims[0].key: found 'A b'": {"key": "A b"},
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_fault_in_the_file_is_named_with_its_place(tmp_path: Path, message: str) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump({"claims": [STATED | FAULTS[message]]}))
    with pytest.raises(InputError, match=re.escape(message)) as error:
        claims.load(file)
    assert str(error.value).startswith(f"{file}: ")


def test_a_key_given_twice_and_a_missing_field_are_named(tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump({"claims": [STATED, STATED]}))
    with pytest.raises(InputError, match=r"claims\[1\].key: found 'late-better' twice"):
        claims.load(file)
    file.write_text(yaml.safe_dump({"claims": [{key: value for key, value in STATED.items() if key != "source"}]}))
    with pytest.raises(InputError, match=r"claims\[0\].source: missing"):
        claims.load(file)


def test_the_file_is_the_same_for_the_same_records_and_links_each() -> None:
    found = both((80, 1), (70, 1)) + perturbed()
    stated = claims.load()
    text = claims.markdown(claims.verdicts(stated, found))
    assert text == claims.markdown(claims.verdicts(stated, found[::-1]))
    assert all(f"[{one.claim}](#{one.key})" in text and f'<a id="{one.key}">' in text for one in stated)
    title, head, rows = claims.section(claims.verdicts(stated, found))
    assert text.startswith(f"# {title}\n") and all(len(row) == len(head) for row in rows) and len(rows) == len(stated)
    used = {record.name for one in claims.verdicts(stated, found) for record in one.records}
    links = re.findall(r"\(records/(.+?)\.json\)", text)
    assert used and {*map(unquote, links)} == used and not any(" " in link or '"' in link for link in links)


def test_markup_in_records_is_harmless_in_claims() -> None:
    evil = "<script>alert(1)</script>|x"
    found = made(LATE, [80, 81, 83], evil) + made(FULL, [70, 71, 72], evil)
    text = claims.markdown([verdict(claim(tasks=1), found)])
    assert "<script>" not in text and "&lt;script>" in text


def test_the_command_writes_the_file_and_fails_on_wrong_input_only(tmp_path: Path) -> None:
    for one in both((80, 1), (70, 1)):
        store.write(tmp_path, one.model_copy(update={"name": re.sub(r"[^a-z0-9.]+", "-", one.name)}))
    stated = tmp_path / "mine.yaml"
    stated.write_text(yaml.safe_dump({"claims": [STATED]}))
    out = tmp_path / "out"
    command = ["claims", tmp_path, "--claims", stated, "--out", out]
    shown = call(*command)
    assert shown.returncode == 0 and "supported" in shown.stdout and (out / "claims.md").is_file()
    content = json.loads(call(*command, "--json").stdout)
    (one,) = content["claims"]
    assert (one["key"], one["verdict"], one["cells"], one["tasks"]) == ("late-better", "supported", 36, sorted(TASKS))
    assert one["low"] < one["effect"] < one["high"] and len(one["records"]) == 36
    assert call("claims", tmp_path / "none").returncode == 2
    stated.write_text("claims: [{}]")
    done = call(*command)
    assert done.returncode == 2 and done.stderr.startswith(f"bench: {stated}: claims[0].key: missing")


def test_a_ratio_of_spreads_lies_in_its_interval_whatever_the_sizes_of_the_sides() -> None:
    first = [normal(0, 1, 5, f"a{i}") for i in range(8)]
    second = [normal(0, 1, 5, f"b{i}") for i in range(2)]
    found = statistics.deviation_ratio(first, second)
    assert found and found.interval.low < found.value < found.interval.high, found


@pytest.mark.parametrize("quantity", ["test", pytest.param("spread", marks=pytest.mark.full)])
def test_without_an_effect_one_claim_in_twenty_is_decided(quantity: str) -> None:
    """Intervals cover 93 to 97 %, so that 3 to 7 % of verdicts are given; 999 of 1000 such runs lie in the bounds."""
    from scipy.stats import binom

    runs, stated = 300, claim(quantity=quantity, tasks=2)
    given = 0
    for run in range(runs):
        found = [
            one
            for task in TASKS[:2]
            for method in (LATE, FULL)
            for one in made(method, normal(70, 2, 5, f"{run}{task}{method['kind']}"), task)
        ]
        given += verdict(stated, found).answer != "not decided yet"
    low, high = binom.ppf(0.0005, runs, 0.03), binom.ppf(0.9995, runs, 0.07)
    assert low <= given <= high, f"{given} of {runs}, expected {low} to {high}"
