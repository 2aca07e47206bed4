"""What the demo shows on the terminal: steps, progress, a short table per product, one suppressed cell explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from broker.core.policy import Policy
from broker.core.report import PUBLISHED, Report

if TYPE_CHECKING:
    from broker.demo.run import Outcome
    from broker.demo.territory import DemoTerritory

MEANINGS = {
    "min_contributors": "fewer homes than the policy's minimum",
    "min_holdings": "too few competing companies: the others could work out a rival's figure",
    "p_percent": "one company could estimate another's figure too closely",
    "dominance": "one home makes up too much of the figure",
    "without_each_holding": "without one company's own customers what remains is too small to be safe",
    "zero_is_sensitive": "a total of zero would say something about every home in it",
    "insider_margin": "one company could tell which of its own homes are meant",
    "secondary": "safe by itself, withheld so that no other withheld figure can be computed by subtraction",
    "part_suppressed": "one of the two figures that it is made of is withheld",
}


class Show:
    """Writes to stderr, so that `--json` leaves stdout to the one object. quiet: shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)

    def step(self, text: str) -> None:
        self.console.print(f"[green]✓[/] {text}")

    def tables(self, partners: int) -> AbstractContextManager[Callable[[int], None]]:
        return self._bar("sites and consent", partners)

    def readings(self, count: int) -> AbstractContextManager[Callable[[int], None]]:
        return self._bar("readings sent", count)

    def releases(self, count: int) -> AbstractContextManager[Callable[[int], None]]:
        return self._bar("releases published", count)

    @contextmanager
    def _bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        columns = TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=self.console) as bars:
            task = bars.add_task(title, total=total)
            yield lambda count: bars.advance(task, count)

    def next_steps(self, running: DemoTerritory, web_port: int) -> None:
        """Where to look while it is up."""
        kafka = running.kafka
        place = f"--bootstrap {kafka.bootstrap} --ca {kafka.ca_pem}"
        self.console.print(
            f"\nIt stays up until Ctrl-C. In another terminal:\n"
            f"  a municipality reads its figures:  broker fetch {running.policies[0].product} --window latest "
            f"--format csv {place} --as city --password-file {kafka.home.secrets / 'city'}\n"
            f"  the operator watches:              http://127.0.0.1:{web_port}/metrics (ingest), "
            f"http://127.0.0.1:{web_port + 1}/metrics (release)\n"
            f"  everything of this run lies in:    {running.home}",
            soft_wrap=True,
        )

    # -- the results ----------------------------------------------------------------------------------

    def outcome(self, outcome: Outcome, policies: list[Policy]) -> None:
        counts = outcome.counts
        self.console.print(
            f"\n[bold]{counts['read']:,} readings[/]: {counts['admitted']:,} admitted ({counts['late']:,} too late to "
            f"be used), {sum(counts['quarantined'].values()):,} quarantined {_reasons(counts['quarantined'])}, "
            f"{sum(counts['refused'].values()):,} refused {_reasons(counts['refused'])}"
        )
        for policy in policies:
            self._product(policy, [report for report in outcome.public if report.product == policy.product])
        self._explain(outcome.decided)

    def _product(self, policy: Policy, reports: list[Report]) -> None:
        if not reports:
            self.console.print(
                f"{policy.title.en}\nno complete window yet: it has windows of {policy.window.length}"
            )
            return
        cells = pl.concat([report.cells for report in reports])
        published = int((cells["status"] == PUBLISHED).sum())
        latest = max(reports, key=lambda report: report.start)
        of_latest = [report for report in reports if report.start == latest.start]
        table = Table(
            title=f"{policy.title.en}\n{published:,} figures published, {cells.height - published:,} withheld; "
            f"latest window from {latest.window_start[:10]}",
            title_justify="left",
        )
        for name in (policy.areas.group, *latest.measures):
            table.add_column(name, justify="left" if name == policy.areas.group else "right")
        for report in of_latest:
            whole = report.cells.filter((pl.col("level") == policy.areas.group) & (pl.col("segment") == "*"))
            for (area,), cells_of_area in whole.partition_by("area", as_dict=True).items():
                values = dict(cells_of_area.select("measure", "value").iter_rows())
                table.add_row(str(area), *(values.get(measure) or "withheld" for measure in latest.measures))
        self.console.print(table)

    def _explain(self, decided: list[Report]) -> None:
        """The first figure that a rule of its own keeps back."""
        for report in sorted(decided, key=lambda r: (r.product, r.start)):
            kept = report.cells.filter(pl.col("primary") & ~pl.col("reasons").str.contains("part_suppressed"))
            if kept.height:
                cell = kept.row(0, named=True)
                why = "; ".join(_meaning(reason) for reason in cell["reasons"].split(";"))
                self.console.print(
                    f"\n[bold]Why is a figure withheld?[/] {report.product}, {cell['level']} {cell['area']}, segment "
                    f"{cell['segment']}, {cell['measure']}, window from {report.window_start[:10]}: {why}.\n"
                    "(Only an auditor with the key sees these reasons; everybody else sees `suppressed`.)"
                )
                return


def _reasons(counts: dict[str, int]) -> str:
    return (
        f"({', '.join(f'{reason} {count:,}' for reason, count in sorted(counts.items()))})" if counts else ""
    )


def _meaning(reason: str) -> str:
    code, _, numbers = reason.partition(":")
    return f"{MEANINGS.get(code, code)}{f' ({numbers})' if numbers else ''}"
