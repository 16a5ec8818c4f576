"""A large study on many machines, on paper: how long it takes, who waits, and what of the surroundings breaks first.

A discrete simulation: workers take jobs in turn; a job starts (its files come from a shared server, one job after
the other), trains for as long as runs were measured to take, and is followed by the next. What is measured and what
is assumed is kept with the outcome by `workflow/simulate.py`.
"""

import heapq
import json
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from vggkit.bench.cost import Speeds, checkpoint_bytes
from vggkit.config import SCHEDULES, RunConfig
from vggkit.report.canvas import PANEL, Figure, drawing, finish
from vggkit.report.markup import Html, as_markdown
from vggkit.report.render import html
from vggkit.runs.files import ArtifactError, reason
from vggkit.study import CONFIGURATIONS, FULL

DEPTHS = (8, 14, 20, 26, 32, 38)
SEEDS = 10
WORKERS = (1, 8, 64, 512)
ORDERS = LISTED, LONGEST = "as listed", "longest first"
DRAWS = 20  # simulations, each with other durations


@dataclass(frozen=True)
class Server:
    """The shared file system, as a server that answers one request after the other.

    Attributes:
        operations: opened files per second.
        bandwidth: bytes per second.
    """

    operations: float = 10_000.0
    bandwidth: float = 1e9

    def seconds(self, files: float, size: float) -> float:
        return max(files / self.operations, size / self.bandwidth)


@dataclass(frozen=True)
class Start:
    """What starting a job takes: files and bytes to read, and seconds of the processor."""

    files: int
    bytes: int
    seconds: float


def asked() -> list[RunConfig]:
    """Every run of the study: all configurations, schedules and depths, ten seeds each; some are the same run."""
    return [
        RunConfig.named(name, suite=FULL, precision="bfloat16", schedule=schedule, depth=depth, seed=seed)
        for name in CONFIGURATIONS
        for schedule in SCHEDULES
        for depth in DEPTHS
        for seed in range(SEEDS)
    ]


def makespan(durations: Sequence[float], workers: int, start: Start, server: Server) -> tuple[float, float]:
    """Seconds until the last job ends, and the share of the workers' time in which nothing is trained."""
    free = [0.0] * min(workers, len(durations))  # when each worker takes its next job
    served = last = 0.0  # until when the server is busy; when the last job so far ends
    for duration in durations:
        ready = heapq.heappop(free)
        served = max(served, ready) + server.seconds(start.files, start.bytes)
        end = served + start.seconds + duration
        heapq.heappush(free, end)
        last = max(last, end)
    return last, 1 - sum(durations) / (workers * last)


def simulate(speeds: Speeds, start: Start, server: Server) -> dict[str, Any]:
    """Makespan and idle share for each number of workers and order, and the load on the server, for the study.

    A run takes what the bench gives for it times a ratio drawn from those of finished runs, so that runs of one
    configuration differ as much as they were seen to. Medians over `DRAWS` drawings.
    """
    runs, everything = list(dict.fromkeys(asked())), len(asked())
    idle = replace(speeds, ratios=())
    bench = [idle.seconds(config) for config in runs]
    generator = random.Random(0)
    drawn = [[seconds * generator.choice(speeds.ratios or (1.0,)) for seconds in bench] for _ in range(DRAWS)]
    longest = sorted(range(len(runs)), key=lambda place: -bench[place])  # by what is known before
    epoch = statistics.fmean(statistics.fmean(durations) for durations in drawn) / runs[0].epochs
    written = statistics.fmean(map(checkpoint_bytes, runs))
    rows, load = [], []
    for workers in WORKERS:
        for order in ORDERS:
            each = [
                makespan([d[place] for place in longest] if order == LONGEST else d, workers, start, server)
                for d in drawn
            ]
            last, share = (statistics.median(values) for values in zip(*each, strict=True))
            least = statistics.median(max(max(d), sum(d) / workers) for d in drawn)
            rows.append(
                {"workers": workers, "order": order, "hours": last / 3600, "idle": share, "least": least / 3600}
            )
        busy = min(workers, len(runs))
        load.append(
            {"workers": workers, "start_seconds": busy * server.seconds(start.files, start.bytes)}
            | {"checkpoint_share": busy * server.seconds(2, written) / epoch}
        )
    return {
        "longest": statistics.median(map(max, drawn)) / 3600,
        "asked": everything, "runs": len(runs), "hours": statistics.median(sum(d) for d in drawn) / 3600,
        "start": asdict(start), "server": asdict(server), "checkpoint_bytes": written, "rows": rows, "load": load,
        "bench": speeds.machine, "ratios": list(speeds.ratios),
    }  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    """What `workflow/simulate.py` wrote.

    Raises:
        ArtifactError: it cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for show in (table_html, method, finding, reading):  # all that a page says of it can be said
            show(content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = reason(error) if isinstance(error, OSError | ValueError) else "not as it was written"
        raise ArtifactError(f"scale: {path} cannot be read ({why}); make it anew: workflow/simulate.py") from error
    return content


def table_html(found: Mapping[str, Any]) -> Html:
    """Makespan and idle share of each number of workers, in both orders, and the load on the file server."""
    loads = {load["workers"]: load for load in found["load"]}
    rows = [
        {
            "workers": f"{row['workers']:,}",
            "order": row["order"],
            "makespan (hours)": f"{row['hours']:,.1f}",
            "at least (hours)": f"{row['least']:,.1f}",
            "idle": f"{row['idle']:.1%}",
            "all jobs started after (s)": f"{loads[row['workers']]['start_seconds']:,.0f}",
            "server busy with checkpoints": f"{loads[row['workers']]['checkpoint_share']:.2%}",
        }
        for row in found["rows"]
    ]
    return html(pd.DataFrame(rows), "The study on 1 to 512 workers", text=("order",))


def method(found: Mapping[str, Any]) -> str:
    """In sentences, as Markdown: the study, what was measured and what is assumed."""
    ratios, start, server = found["ratios"], found["start"], found["server"]
    return (
        f"{found['asked']:,} runs are asked for, of which {found['runs']:,} are different: at one depth VGG08 and "
        f"VGG38 are one network, whose runs are trained once. Together they take {found['hours']:,.0f} hours of a "
        f"worker, which is a machine like that of the bench ({as_markdown(found['bench'])}). A run takes what the "
        f"bench gives, times a ratio drawn from those of {len(ratios)} finished runs on that machine "
        f"({min(ratios):.1f} to {max(ratios):.1f}); medians over {DRAWS} drawings. Starting a job opens "
        f"{start['files']:,} files of together {start['bytes'] / 1e6:,.0f} MB, which are counted as read whole by each "
        f"job, and takes {start['seconds']:.0f} s of the processor (measured). The file server is assumed, not "
        f"measured: it opens {server['operations']:,.0f} files and moves {server['bandwidth'] / 1e6:,.0f} MB in a "
        "second."
    )


def finding(found: Mapping[str, Any]) -> str:
    """In sentences, as Markdown: what the simulation shows."""
    rows = {(row["workers"], row["order"]): row for row in found["rows"]}
    most = max(workers for workers, _ in rows)
    listed, longest = rows[most, LISTED], rows[most, LONGEST]
    load = found["load"][-1]
    return (
        f"On {most} workers the study takes {longest['hours']:,.1f} hours with the longest runs first and "
        f"{listed['hours']:,.1f} as listed; less than {longest['least']:,.1f} is not possible. Idle are "
        f"{longest['idle']:.0%} and {listed['idle']:.0%} of the workers' time. The longest run alone takes "
        f"{found['longest']:,.1f} hours, which no number of workers shortens. The start of the first jobs keeps the "
        f"file server busy for {load['start_seconds']:,.0f} seconds, their checkpoints for "
        f"{load['checkpoint_share']:.1%} of its time."
    )


def reading(found: Mapping[str, Any]) -> str:
    """In sentences, as Markdown: how long finished runs take to read, and a plan of the study to be made."""
    counts = ", ".join(f"{row['seconds']:,.1f} s for {row['runs']:,}" for row in found["reading"])
    plan = found["planning"]
    return (
        f"Reading every file of finished runs and checking it (`vggkit list`) takes {counts} runs of 100 epochs; to "
        f"see which of them are finished, as `snakemake` does, {found['looking']['seconds']:,.2g} s for "
        f"{found['looking']['runs']:,}. A dry run of the study's {plan['jobs']:,} jobs takes {plan['seconds']:,.0f} s. "
        f"All are seconds of one core ({as_markdown(found['machine'])})."
    )


def figure(found: Mapping[str, Any]) -> Figure:
    """Makespan and idle share over the number of workers, in both orders."""
    with drawing(PANEL, PANEL) as (left, right):
        for order, line, marker in ((LISTED, "--", "s"), (LONGEST, "-", "o")):
            rows = [row for row in found["rows"] if row["order"] == order]
            workers = [row["workers"] for row in rows]
            left.plot(workers, [row["hours"] for row in rows], line, marker=marker, label=order)
            right.plot(workers, [100 * row["idle"] for row in rows], line, marker=marker, label=order)
        left.plot(workers, [row["least"] for row in rows], ":", color="#8c8c8c", label="at least")
        left.set(xlabel="workers", ylabel="makespan (hours)", yscale="log")
        right.set(xlabel="workers", ylabel="idle (% of the workers' time)", ylim=(0, None))
        for ax in (left, right):
            ax.set_xscale("log", base=2)
            ax.set_xticks(WORKERS, [str(count) for count in WORKERS])
            ax.legend(frameon=False)
        last = {row["order"]: row for row in found["rows"] if row["workers"] == max(WORKERS)}
        caption = (
            f"{found['runs']:,} runs on 1 to {max(WORKERS)} workers, simulated from measured times. Left: hours until "
            "the last run ends, and the least that is possible. Right: share of the workers' time without training, "
            f"at {max(WORKERS)} workers {last[LISTED]['idle']:.0%} as listed and {last[LONGEST]['idle']:.0%} longest "
            "first."
        )
        return finish((left, right), caption, "Two line charts over the number of workers: makespan and idle share.")
