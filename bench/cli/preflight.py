"""`bench preflight`, and what it means for a run."""

from __future__ import annotations

import json

from rich.console import Console
from rich.progress import Progress

from bench.checks.preflight import groups
from bench.checks.preflight.probes import Probe, probes
from bench.checks.preflight.report import Report, called
from bench.checks.preflight.verdicts import UNCHECKED, Verdict
from bench.cli.terminal import print_table, say
from bench.core import files
from bench.core.redaction import redacted
from bench.matrix import matrix
from bench.matrix.cell import Cell, slug
from bench.records.record import Failure, Record, Status
from bench.runner.launch import Launch, LaunchError


def preflight(name: str, cells: list[Cell], where: Launch, console: Console) -> Report:
    """Every probe of `cells`, shown as it goes; the report is in the results. LaunchError as in `loop.run`."""
    made = probes(cells)
    say(console, f"preflight of {name}: {len(made)} probes for {len(cells)} cells")
    bar = Progress(console=console, disable=not console.is_terminal)
    task = bar.add_task("probes", total=len(made))

    def tell(probe: Probe, verdict: Verdict) -> None:
        bar.advance(task)
        if not console.is_terminal:
            done = int(bar.tasks[task].completed)
            say(console, f"[{done}/{len(made)}] {called(probe.cell)}: {verdict.finding}")

    with bar:
        verdicts, environment = groups.run(made, where, tell)
    report = Report(name, made, verdicts, environment)
    content = json.dumps(redacted(report.content()), indent=1, ensure_ascii=False)
    files.write(where.results / "preflight" / f"{slug(name)}.json", content + "\n")
    return report


def show(report: Report, console: Console) -> None:
    head, rows = report.table()
    print_table(head, rows, console, red=("wrong",))
    for line in report.lines():
        say(console, line)


def command(name: str, where: Launch, as_json: bool) -> int:
    """The exit status: 1 when something is wrong, or the processes could not be started."""
    loaded = matrix.load(name)
    console = Console(soft_wrap=True, stderr=as_json)
    try:
        report = preflight(loaded.name, loaded.expand(), where, console)
    except (LaunchError, OSError) as error:
        say(console, str(error))
        return 1
    if as_json:
        print(json.dumps(report.content(), indent=1, ensure_ascii=False))
    else:
        show(report, console)
    return 1 if report.wrong else 0


def record(cell: Cell, verdict: Verdict) -> Record | None:
    """Of a cell that is not worth running; None where its gradients are right, or nothing was learnt of them.

    Nothing is where the group ended or hung: it may have been its host.
    """
    statuses: dict[str, Status] = {"wrong": "failed", "unsupported": "unsupported"}
    status = statuses.get(verdict.finding)
    if status is None or verdict.phase in (UNCHECKED, "comparison", "run"):
        return None
    return cell.without_result(status, Failure(phase="preflight", rank=None, host=None, exception=verdict.why))
