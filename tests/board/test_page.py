"""The page beside the leaderboards, as a reader has it: in a browser, from disk, without a network."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from sample_records import GIB, MIB, record, weighed

from bench import board
from bench.board.contents import Contents
from bench.board.writers.page import Section, document, page
from bench.records import store
from bench.records.record import Failure, Predicted, Record

CHROMIUM = shutil.which("chromium")
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium in PATH (on Debian: apt-get install chromium)")
ROLES = {
    "button",
    "link",
    "checkbox",
    "radio",
    "combobox",
    "textbox",
    "spinbutton",
    "image",
    "table",
    "region",
    "group",
}
EVIL = '</script><img src=x onerror="window.caught=1"><!-- \' " & \u2028 ${x} `<b>'
SCORES = {
    ("full", "none"): (0.90, 0.91, 0.92),
    ("lora", "none"): (0.80, 0.70, 0.90),
    ("lora", "noise"): (0.85, 0.86, 0.87),
    ("probe", "none"): (0.60, 0.61, 0.62),
}
PEAKS = {"full": 30 * GIB, "lora": 6 * GIB, "probe": GIB}


def cell_of(place: int, method: str, regularizer: str, seed: int, test: float, **labels: Any) -> Record:
    """A finished cell of one of SCORES, on 1 rank unless it says otherwise."""
    name = f"{method}.{regularizer}.{labels.get('task', 'mr')}.{labels.get('zero', 'zero0')}.s{seed}-{place:04x}"
    ranks = labels.pop("ranks", 1)
    made = weighed(
        name,
        [PEAKS[method] + seed * MIB] * ranks,
        method=method,
        regularizer=regularizer,
        seed=seed,
        test=test,
        reserved=PEAKS[method],
        cell={"method": {"kind": method}, "ranks": ranks, "zero": {"name": labels.get("zero", "zero0")}},
        **{"backbone": "bert", "task": "mr", "zero": "zero0", **labels},
    )
    assert made.cost is not None
    cost = made.cost.model_copy(
        update={"trainable_parameters": 10 ** (3 + len(method)), "seconds": {"train": 1.0 + seed}}
    )
    return made.model_copy(update={"cost": cost})


def cells() -> list[Record]:
    """Two tasks, two ZeRO configurations, one cell out of memory, and two of random weights that were predicted."""
    made: list[Record] = []
    for labels in ({}, {"task": "sst2"}, {"zero": "zero3", "ranks": 2}):
        for (method, regularizer), scores in SCORES.items():
            for seed, test in enumerate(scores):
                made.append(cell_of(len(made), method, regularizer, seed, test, **labels))
    failure = Failure(phase="train", rank=0, host="h", exception="OutOfMemoryError: 20 MiB", bytes_asked=20 * MIB)
    lost = cell_of(len(made), "full", "none", 3, 0.9)
    made.append(lost.model_copy(update={"status": "out_of_memory", "failure": failure, "quality": None, "cost": None}))
    for method, need in (("full", 90 * GIB), ("lora", 20 * GIB)):
        plain = cell_of(len(made), method, "none", 0, 0.5, backbone="llama", task="random-tokens")
        foreseen = Predicted(tokens=8, device={"train": {"parameters": need}}, host={})
        update = {"predicted": foreseen, "quality": None, "cost": None, "memory": ()}
        cell = {**plain.cell, "weights": "random", "max_length": 512}
        made.append(plain.model_copy(update={**update, "cell": cell, "status": "predicted_out_of_memory"}))
    return made


@dataclass
class Visit:
    """A page that was opened, and what it did besides."""

    page: Page
    requests: list[str] = field(default_factory=list[str])
    complaints: list[str] = field(default_factory=list[str])

    def rows(self, caption: str) -> list[list[str]]:
        """The cells of a table, but for the lines that list records."""
        table = self.page.get_by_role("table", name=caption, exact=True).first
        lines = table.locator("> tbody > tr:not(.below)")
        return lines.evaluate_all("lines => lines.map(line => [...line.children].map(cell => cell.innerText))")

    def column(self, caption: str, head: str) -> list[str]:
        table = self.page.get_by_role("table", name=caption, exact=True).first
        heads = [text.strip() for text in table.locator("> thead th").all_inner_texts()]
        return [line[heads.index(head)] for line in self.rows(caption)]

    def methods(self, caption: str) -> list[tuple[str, str]]:
        return list(zip(self.column(caption, "method"), self.column(caption, "regularizer"), strict=True))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board beside its records."""
    results = tmp_path_factory.mktemp("results")
    made = cells()
    for one in made:
        store.write(results, one)
    board.write(Contents(made), results)
    return results


class Opening:
    """Opens pages; what is asked of a network or told on the console fails the test."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.visits: list[Visit] = []

    def __call__(self, file: Path, after: str = "", width: int = 1280, scheme: Any = "light") -> Visit:
        context = self.browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        visit = Visit(context.new_page())
        visit.page.set_default_timeout(20_000)
        visit.page.on("request", lambda request: visit.requests.append(request.url))
        visit.page.on("console", lambda message: visit.complaints.append(message.text))
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.goto(f"{file.as_uri()}{after}")
        self.visits.append(visit)
        return visit


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opening]:
    opening = Opening(browser)
    yield opening
    for visit in opening.visits:
        visit.page.context.close()
        assert not visit.complaints, visit.complaints
        assert all(url.startswith("file:///") for url in visit.requests), visit.requests


MR = "mr · regime · bert · zero0, 1 rank"


def test_the_same_records_give_the_same_bytes_in_any_order() -> None:
    made = cells()
    assert page(Contents(made)) == page(Contents(made[::-1]))


def test_cells_that_only_served_to_choose_are_in_no_row() -> None:
    plain = record("a")
    tuning = {"role": "tune", "setting": "s", "candidate": "learning_rate=1", "seeds": [0]}
    tuned = plain.model_copy(update={"name": "b", "cell": {**plain.cell, "seed": 9, "tuning": tuning}})
    assert document(Contents([plain, tuned]))["rows"] == document(Contents([plain]))["rows"]


def test_ten_thousand_records_make_less_than_two_megabytes() -> None:
    long = "late_prompt depth=3 generator=average_pooling"
    made = [
        record(f"all-minilm.sst2.total-100.{long.replace(' ', '-')}.noise-{row}.zero0.x2.s{seed}-{row:08x}{seed:02x}")
        .model_copy(update={"labels": record().labels.model_copy(update={"method": long, "regularizer": f"r{row}"})})
        .model_copy(update={"cell": {**record().cell, "regularizer": row, "seed": seed}})
        for row in range(100)
        for seed in range(5)
    ]
    empty = len(page(Contents([])))
    size = len(page(Contents(made)).encode())
    assert empty + 20 * (size - empty) < 2_000_000, (empty, size)


def test_what_a_row_needs_is_measured_or_else_predicted() -> None:
    def needs(*several: Record) -> tuple[float | None, str]:
        made = document(Contents(several))
        (row,) = made["rows"]
        named = dict(zip(made["columns"], row, strict=True))
        return named["need"], made["strings"][named["source"]]

    gpu = [weighed("a", (3 * MIB, 5 * MIB), reserved=1, predicted=MIB), weighed("b", seed=1, reserved=1)]
    assert needs(*gpu) == (6, "measured"), "that of evaluation, which needs 1 MiB more than training"
    assert needs(weighed("a", (2 * MIB,))) == (3, "measured (CPU)")
    assert needs(weighed("a", (9 * MIB,), predicted=2 * MIB)) == (2, "predicted"), (
        "a CPU's bytes have the host's in them"
    )
    assert needs(record("a", test=None)) == (None, "not known")


def test_strings_cannot_end_the_data_and_links_are_quoted() -> None:
    made = record("a/b #?%", method=EVIL, task=EVIL, regularizer=EVIL)
    text = page(Contents([made]))
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert not re.search(r"[<>&\u2028\u2029]", data)
    assert EVIL in json.loads(data)["strings"] and text.count("<script") == 2


@in_browser
def test_a_record_full_of_markup_is_shown_as_it_is(opened: Opening, tmp_path: Path) -> None:
    evil = weighed("a #?%&\"'<i>", method=EVIL, task=EVIL, regularizer=EVIL, backbone=EVIL, zero=EVIL)
    failed = record("javascript:alert(1)", test=None, method=EVIL, backbone=EVIL)
    section = Section(EVIL, [EVIL, "n"], [[EVIL, "1"]], EVIL)
    (tmp_path / "index.html").write_text(page(Contents([evil, failed]), [section]), encoding="utf-8")
    visit = opened(tmp_path / "index.html")
    assert visit.page.evaluate("window.caught") is None
    assert visit.page.locator("img, body b, body i").count() == 0
    flat = " ".join(EVIL.split())
    assert flat in " ".join(visit.page.locator("tbody th.name").first.inner_text().split())
    assert visit.page.locator("a[href*='javascript:']").count() == 0
    hrefs = visit.page.locator("tbody a[href]").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert {unquote(href) for href in hrefs} == {f"records/{evil.name}.json", f"records/{failed.name}.json"}
    visit.page.locator(".point").first.hover()
    assert "onerror" in visit.page.locator("#tooltip").inner_text()


@in_browser
def test_heads_sort_and_say_so(opened: Opening, folder: Path) -> None:
    visit = opened(folder / "index.html")
    best_first = [("full", "none"), ("lora", "noise"), ("lora", "none"), ("probe", "none")]
    assert visit.methods(MR) == best_first
    table = visit.page.get_by_role("table", name=MR, exact=True)
    head = table.get_by_role("columnheader", name="peak GiB/rank")
    assert head.get_attribute("aria-sort") == "none"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert visit.column(MR, "peak GiB/rank") == ["1.00", "6.00", "6.00", "30.00"]
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending" and "sort=peak%3Adescending" in visit.page.url
    assert visit.methods(MR)[0] == ("full", "none")
    assert table.get_by_role("columnheader", name="test %").get_attribute("aria-sort") == "none"
    other = visit.methods("sst2 · regime · bert · zero0, 1 rank")
    assert other[0] == ("full", "none") and other[-1] == ("probe", "none"), "all tables are sorted alike"


@in_browser
def test_filters_choose_rows_by_keys_and_are_in_the_address(opened: Opening, folder: Path) -> None:
    visit = opened(folder / "index.html")
    count = visit.page.get_by_role("status").first
    assert count.inner_text() == "14 of 14 rows, 4 settings, 39 records"
    visit.page.locator("summary", has_text="Method").press("Enter")
    box = visit.page.get_by_role("checkbox", name="lora")
    assert "7" in box.locator("xpath=..").inner_text()
    box.press("Space")
    assert count.inner_text() == "7 of 14 rows, 4 settings, 19 records" and "method=lora" in visit.page.url
    box.press("Escape")
    assert not box.is_visible()
    visit.page.locator("summary", has_text="Task").click()
    visit.page.get_by_role("checkbox", name="sst2").check()
    assert {method for method, _ in visit.methods("sst2 · regime · bert · zero0, 1 rank")} == {"lora"}
    assert visit.page.locator("#settings table").count() == 1
    again = opened(folder / "index.html", "#" + visit.page.url.partition("#")[2])
    assert again.page.get_by_role("status").first.inner_text() == "2 of 14 rows, 1 setting, 6 records"
    again.page.get_by_role("button", name="Clear filters").click()
    assert again.page.get_by_role("status").first.inner_text().startswith("14 of 14") and "#" not in again.page.url


@in_browser
def test_every_number_leads_to_a_record_that_is_there(opened: Opening, folder: Path) -> None:
    visit = opened(folder / "index.html")
    toggle = visit.page.get_by_role("button", name="3 of 4 seeds: records of full").first
    toggle.press("Enter")
    assert toggle.get_attribute("aria-expanded") == "true"
    listed = visit.page.get_by_role("table", name="Records of full").first
    assert [line.split("\t")[1] for line in listed.locator("tbody tr").all_inner_texts()] == ["ok"] * 3 + [
        "out_of_memory"
    ]
    visit.page.get_by_role("table", name=MR, exact=True).get_by_role("cell", name="86.0 ± 1.0").first.click()
    assert visit.page.get_by_role("table", name="Records of lora with noise").first.is_visible()
    for view in ("overview", "quality", "speed", "memory"):
        visit.page.get_by_role("radio", name=view).check()
        hrefs = visit.page.locator("main a[href]").evaluate_all("links => links.map(link => link.getAttribute('href'))")
        assert len(hrefs) > 40 and all((folder / unquote(href)).is_file() for href in hrefs), hrefs
    visit.page.get_by_role("radio", name="quality").check()
    worst = visit.page.get_by_role("table", name=MR, exact=True).locator("td a.figure", has_text="70.0")
    assert "lora.none.mr.zero0.s1" in str(worst.get_attribute("href"))


def tooltip(visit: Visit) -> str:
    return visit.page.locator("#tooltip").inner_text()


@in_browser
def test_points_of_the_plot_tell_what_they_are_by_pointer_and_by_keys(opened: Opening, folder: Path) -> None:
    visit = opened(folder / "index.html")
    plot = visit.page.get_by_role("group", name="Test score against peak memory per rank")
    points = plot.locator(".point")
    assert points.count() == 4 and plot.locator("a circle.seed").count() == 12
    points.nth(0).hover()
    told = tooltip(visit)
    assert told.startswith("probe") and MR in told and "test 61.0 % ± 1.0, 95 % interval" in told, told
    assert "peak memory per rank 1.00 GiB" in told and "on the front" in told
    visit.page.mouse.move(1, 1)
    assert not visit.page.locator("#tooltip").is_visible()
    points.nth(3).focus()
    assert tooltip(visit).startswith("full") and "trainable parameters 10,000,000" in tooltip(visit)
    assert points.nth(3).get_attribute("aria-label") == ", ".join(tooltip(visit).split("\n"))
    visit.page.keyboard.press("Escape")
    assert not visit.page.locator("#tooltip").is_visible()
    points.nth(3).press("Enter")
    assert visit.page.locator("#plot-records").get_by_role("link").count() == 4


@in_browser
def test_the_front_is_of_one_setting_and_one_cost(opened: Opening, folder: Path) -> None:
    visit = opened(folder / "index.html")

    def on_front() -> list[str]:
        labels = visit.page.locator("#plot g.point").evaluate_all(
            "nodes => nodes.map(node => node.getAttribute('aria-label'))"
        )
        return [label.split(",")[0] for label in labels if label.endswith("on the front")]

    assert on_front() == ["probe", "lora with noise", "full"]
    visit.page.get_by_role("combobox", name="Cost", exact=True).select_option("trainable")
    assert on_front() == ["full"], "4 letters, and the best score"
    assert "(log scale)" in visit.page.locator("#plot svg").first.inner_html()
    setting = visit.page.get_by_role("combobox", name="Setting", exact=True)
    setting.select_option(label="mr · regime · bert · zero3, 2 ranks")
    assert "zero3, 2 ranks" in visit.page.locator("#pareto-note").inner_text()
    assert visit.page.evaluate("document.activeElement.closest('label').innerText").startswith("Setting")
    assert "random-tokens" not in setting.inner_text(), "no scores, no front"


@in_browser
def test_memory_by_owner_is_told_by_pointer_and_by_keys(opened: Opening, folder: Path) -> None:
    visit = opened(folder / "index.html", "#view=memory")
    bar = visit.page.get_by_role("table", name=MR, exact=True).locator(".bar").first
    bar.focus()
    assert tooltip(visit).split("\n") == ["full, 30.00 GiB", "parameters 15.00 GiB", "activations 15.00 GiB"]
    assert "parameters 15.00 GiB" in str(bar.get_attribute("aria-label"))
    widths = bar.locator("span").evaluate_all("pieces => pieces.map(piece => piece.getBoundingClientRect().width)")
    assert widths[0] == pytest.approx(widths[1], abs=1) and sum(widths) > 100


@in_browser
def test_what_fits_my_gpus(opened: Opening, folder: Path) -> None:
    visit = opened(folder / "index.html", "#gpus=1&memory=8")
    fits = visit.page.locator("#fits-count")
    visit.page.get_by_label("Backbone").select_option("bert")
    assert fits.inner_text() == "1 of 8 rows fit 1 GPU of 8 GiB.", (
        "6 GiB in training, a little more in evaluation, and 2 kept"
    )
    visit.page.get_by_label("GiB of each").fill("8.1")
    assert visit.methods("What fits") == [("lora", "noise"), ("lora", "none"), ("probe", "none")]
    assert visit.column("What fits", "ZeRO") == ["zero0"] * 3 and visit.column("What fits", "micro-batch") == ["8"] * 3
    assert visit.column("What fits", "expected test %")[0].replace("\n", " ").startswith("86.0")
    assert visit.column("What does not fit", "needs")[-1].startswith("2 GPUs, 32.0")
    visit.page.get_by_label("Number of GPUs").fill("2")
    assert fits.inner_text() == "6 of 8 rows fit 2 GPUs of 8.1 GiB."
    visit.page.get_by_label("Backbone").select_option("llama")
    visit.page.get_by_label("GiB of each").fill("24")
    assert visit.methods("What fits") == [("lora", "none")] and visit.column("What fits", "from") == ["predicted"]
    assert visit.column("What does not fit", "needs") == ["92.00 GiB on each"]
    visit.page.get_by_label("GiB of each").fill("-1")
    assert fits.inner_text().startswith("Expected")


@in_browser
def test_failures_and_other_sections_are_tables_too(opened: Opening, folder: Path, tmp_path: Path) -> None:
    visit = opened(folder / "index.html")
    rows = visit.rows("Cells that did not finish")
    assert [row[1] for row in rows] == ["out_of_memory", "predicted_out_of_memory", "predicted_out_of_memory"]
    assert "20.0 MiB" in visit.column("Cells that did not finish", "asked")
    section = Section("Claims of papers", ["claim", "cells"], [["b", "9"], ["a", "10"], ["c", "–"]], "As they stand.")
    (tmp_path / "index.html").write_text(page(Contents([]), [section]), encoding="utf-8")
    empty = opened(tmp_path / "index.html", "#claims-of-papers")
    assert empty.page.evaluate("document.querySelector(':target').id") == "claims-of-papers"
    assert "As they stand." in empty.page.locator("#claims-of-papers").inner_text()
    empty.page.get_by_role("button", name="cells").click()
    assert [row[0] for row in empty.rows("Claims of papers")] == ["b", "a", "c"], "by number, the unknown one last"


@in_browser
def test_the_theme_follows_the_system_until_the_button_says_otherwise(opened: Opening, folder: Path) -> None:
    visit = opened(folder / "index.html", scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = visit.page.evaluate(paper)
    visit.page.get_by_role("button", name="Light theme").click()
    light = visit.page.evaluate(paper)
    assert light == "rgb(255, 255, 255)" and dark != light
    visit.page.reload()
    assert visit.page.evaluate(paper) == light, "kept"
    assert opened(folder / "index.html").page.evaluate(paper) == light


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(opened: Opening, folder: Path, scheme: str) -> None:
    """A contrast of 4.5 (WCAG 2.2, 1.4.3)."""
    visit = opened(folder / "index.html", scheme=scheme)
    ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    for what in ("td", "thead button", ".note", "a", ".deviation", "#plot text", "button.records"):
        style = "node => { const s = getComputedStyle(node); return node instanceof SVGElement ? s.fill : s.color; }"
        text = visit.page.locator(what).first.evaluate(style)
        assert contrast(text, ground) >= 4.5, (what, text, ground)


def contrast(one: str, other: str) -> float:
    """Of two colours `rgb(r, g, b)`, as WCAG has it."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@in_browser
def test_a_phone_shows_it_without_scrolling_the_page(opened: Opening, folder: Path) -> None:
    visit = opened(folder / "index.html", width=375)
    for view in ("overview", "quality", "speed", "memory"):
        visit.page.get_by_role("radio", name=view).check()
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 375, view
    visit.page.locator("button.records").first.click()
    visit.page.locator("summary", has_text="Method").click()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 375
    box = visit.page.locator(".scroll").first
    left: Locator = box.locator("tbody th.name").first
    box.evaluate("box => { box.scrollLeft = 10000; }")
    assert left.evaluate("node => node.getBoundingClientRect().left") == pytest.approx(
        box.evaluate("node => node.getBoundingClientRect().left"), abs=1
    ), "the method stays in sight"


@in_browser
def test_whoever_listens_hears_the_name_of_everything(opened: Opening, folder: Path) -> None:
    visit = opened(folder / "index.html", "#view=memory")
    session = visit.page.context.new_cdp_session(visit.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    found = {role for role, _ in named} & ROLES
    assert found >= {"button", "link", "checkbox", "radio", "combobox", "spinbutton", "image", "table"}, found
    assert not [role for role, name in named if role in ROLES - {"group"} and not name.strip()]
    assert visit.page.locator("h1").count() == 1 and visit.page.locator("html").get_attribute("lang") == "en"


@in_browser
def test_one_table_of_all_settings_has_their_columns(opened: Opening, folder: Path) -> None:
    visit = opened(folder / "index.html", "#backbone=bert")
    visit.page.get_by_label("all rows in one table").check()
    assert len(visit.rows("All rows")) == 12 and set(visit.column("All rows", "ZeRO")) == {"zero0", "zero3"}
    assert "together=yes" in visit.page.url


@in_browser
def test_a_setting_tells_its_ranks_and_what_it_could_tell(opened: Opening, folder: Path) -> None:
    visit = opened(folder / "index.html")
    ranks = visit.column(MR, "rank")
    assert ranks[0] == "1=" and all(re.fullmatch(r"\d+=?", rank) for rank in ranks)
    assert "could detect" in visit.page.locator(".setting").first.inner_text()
