"""What our runs say of the report's claims: a verdict, or what they speak for, as a table and in sentences.

A verdict comes from full runs alone, and only where the spread over seeds is known; else a tendency is told.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from vggkit.report.claims import BY_KEY, CLAIMS
from vggkit.report.intervals import LEVEL
from vggkit.report.markup import Html, as_html
from vggkit.report.render import html as as_table
from vggkit.report.render import lines
from vggkit.report.turning import WINDOWS
from vggkit.report.verdicts import FAILS, HOLDS, OPEN, TEST_IMAGES, VALIDATION_IMAGES, Part
from vggkit.runs.select import Runs, of_suite
from vggkit.study import FULL, shown_suites

MANY = 3  # comparisons that are open: so many are counted, fewer are named

METHODS = f"""\
An interval covers two draws, and adds them in quadrature: that of the seed, and that of the images on which
the accuracies are measured.

- *Seeds, pooled t*: the standard deviation over seeds is pooled over all configurations of one kind that have several
  seeds ("df" are its degrees of freedom), and stands for all of that kind, so that a configuration with one seed gets
  an interval too. For accuracies and gaps, a kind are the networks of one depth and one learning rate that learn,
  since large steps may well make a run depend more on its seed; for how far a loss rises again, all whose loss rises,
  or all whose does not; for ratios of gradients, the networks of one depth whose gradient vanishes, or whose does
  not. Where no configuration of a kind has several seeds, the kind's shorter runs stand in ("of shorter runs"), which
  takes it that a seed moves them as much. Where two kinds are compared the spread is taken that reaches further;
  where a network's seeds are of two kinds, its own counts too. The bound for several differences at once is
  Dunnett's, for the correlation of differences that share a configuration; where their spreads are not the same, each
  set of one spread has its share of the chance of a miss, by the number of its differences (Bonferroni).
- *Seeds, permutation*: where each side of every part of one spread has so many seeds that its permutation test can
  reject at {100 - 100 * LEVEL:.0f} % divided by the number of parts (four on each side for one part, five for six),
  the interval is all shifts that this test does not reject, without any assumption on the spread.
- *Images*: Newcombe's hybrid score interval of the difference of two proportions, or Wilson's of one, on
  {TEST_IMAGES:,} test images, or for gaps on the {VALIDATION_IMAGES:,} validation images. "Images alone": the spread
  over seeds is unknown, or none of a network's seeds learns, and it is taken that no other would; one that names the
  same class for all images is right for exactly one in a hundred, whichever they are. Ratios and losses have no such
  part.
- *Smoothed*: a mean over {", ".join(map(str, WINDOWS[:-1]))} or {WINDOWS[-1]} epochs, at both ends a straight line
  through as many. Where a loss is lowest and how far it rises is the median over these widths. The standard error of
  the smoothed loss comes from the scatter of the loss about it, near the lowest point."""


class Judgement(NamedTuple):
    """What our runs say of a claim.

    `verdict` is HOLDS or FAILS only by full runs whose spread over seeds is known. `tendency` is what the
    runs of `suite` say if they are taken as they are, `settled` whether they give a verdict of their suite.
    """

    verdict: str
    needs: tuple[str, ...]
    tendency: str = OPEN
    suite: str | None = None
    epochs: int = 0
    settled: bool = False
    parts: tuple[Part, ...] = ()


def all_of(verdicts: Sequence[str]) -> str:
    """A claim with several parts fails with one of them and holds with all."""
    return FAILS if FAILS in verdicts else HOLDS if set(verdicts) == {HOLDS} else OPEN


def judge(claim: str, runs: Runs) -> Judgement:
    """The verdict on a claim of `CLAIMS`, by the fullest suite that has all the configurations it needs."""
    found = BY_KEY[claim]
    suite = next((suite for suite in shown_suites() if set(found.needs) <= set(of_suite(runs, suite))), None)
    if suite is None:
        return Judgement(OPEN, found.needs)
    suites = shown_suites()
    group, *shorter = [of_suite(runs, name) for name in suites[suites.index(suite) :]]
    parts = tuple(found.rule([group, *shorter]))
    settled = all(part.verdict is not None for part in parts)
    tendency = all_of([part.verdict if settled else part.tendency for part in parts])  # type: ignore[misc]
    epochs = group[found.needs[0]][0].config.epochs
    return Judgement(
        tendency if settled and suite == FULL else OPEN, found.needs, tendency, suite, epochs, settled, parts
    )


SPEAKS = {HOLDS: "for it", FAILS: "against it", OPEN: "neither way"}


def table(runs: Runs) -> pd.DataFrame:
    """A row for each claim; the verdict by full runs, or the tendency of others, and the parts are lists of lines."""
    rows = []
    for claim in CLAIMS:
        found = judge(claim.key, runs)
        if found.suite is None:
            reason = "these runs differ in length" if set(claim.needs) <= set(runs) else "runs are missing"
            rows.append({"claim": claim.text, "verdict": [f"{OPEN} yet"], "our runs": [reason]})
            continue
        if found.suite == FULL:
            verdict = [found.verdict if found.settled else f"these runs: {SPEAKS[found.tendency]}"]
        else:
            says = found.tendency if found.settled else f"these runs: {SPEAKS[found.tendency]}"
            verdict = [f"{OPEN} yet", f"({found.suite}, {found.epochs} epochs: {says})"]
        rows.append({"claim": claim.text, "verdict": verdict, "our runs": [p.words for p in found.parts]})
    return pd.DataFrame(rows)


def told(runs: Runs, *claims: str) -> str:
    """What our runs say of `claims`, in sentences for the book's text, as Markdown.

    What holds or does not comes first. What the runs only suggest or leave open follows, in one sentence
    for all runs of one kind.
    """
    plain: list[str] = []
    suggested: dict[str, list[str]] = {}
    left_open: dict[str, list[str]] = {}
    for key in claims:
        claim, found = BY_KEY[key], judge(key, runs)
        wrong = [part for part in found.parts if (part.verdict if found.settled else part.tendency) == FAILS]
        failed = " and ".join(f"{part.compared.partition(' − ')[0]} ({part.found})" for part in wrong)
        clause = claim.no.format(failed=failed) if found.tendency == FAILS else claim.yes
        if found.verdict != OPEN:
            plain.append(f"{clause[0].upper()}{clause[1:]}.")
        else:
            clause += _parts_told(found.parts)
            (left_open if found.tendency == OPEN else suggested).setdefault(_who(found), []).append(clause)
    missing = left_open.pop("", [])
    for who in dict.fromkeys([*suggested, *left_open]):
        says = [f"suggest {_listed('that', suggested[who])}"] if who in suggested else []
        says += [f"leave open {_listed('whether', left_open[who])}"] if who in left_open else []
        plain.append(f"{who} {'; they '.join(says)}.")
    if missing:
        plain.append(f"It is not known yet {_listed('whether', missing)}: runs are missing.")
    return " ".join(plain)


def _parts_told(parts: Sequence[Part]) -> str:
    """Which comparisons of a claim that is left open hold and which are open, in brackets; empty where none is known.

    Where many are open they are counted. Those that hold are named without their differences.
    """
    held, rest = ([part for part in parts if part.verdict == verdict and part.found] for verdict in (HOLDS, OPEN))
    if len(rest) >= MANY:
        return f" (of {len(parts)} comparisons {len(held)} hold{'s' * (len(held) == 1)})" if held else ""
    if len(parts) == 1 and rest:
        return f" ({_named(rest, numbers=True)})"
    told = [f"settled for {_named(held)}"] * bool(held) + [f"open for {_named(rest, numbers=True)}"]
    return f" ({'; '.join(told)})" if rest else ""


def _named(parts: Sequence[Part], *, numbers: bool = False) -> str:
    """What is compared, that with one network taken together; with the differences if `numbers`."""
    others: dict[str, list[str]] = {}
    for part in parts:
        first, against, second = part.compared.partition(" − ")
        words = [second] * bool(against) + [part.found] * (numbers or not against)
        others.setdefault(f"{first} against " if against else f"{first}, ", []).append(", ".join(words))
    joint = ", and " if numbers else " and "
    return " and ".join(
        lead + joint.join([", ".join(firsts)] * bool(firsts) + [last]) for lead, (*firsts, last) in others.items()
    )


def _listed(joint: str, clauses: Sequence[str]) -> str:
    *firsts, last = [f"{joint} {clause}" for clause in clauses]
    return "; ".join([*firsts, "and " * bool(firsts) + last])


def _who(found: Judgement) -> str:
    """The runs that do not decide a claim, as a sentence's subject; empty where there are none."""
    if found.suite is None:
        return ""
    if found.suite == FULL:
        return "The full runs" if found.settled else "The full runs, too few for a verdict,"
    return f"Reduced runs (`{found.suite}`, {found.epochs} epochs), which decide nothing,"


def table_html(runs: Runs) -> Html:
    """`table` for a page."""
    frame = table(runs)
    cells = pd.DataFrame(
        {
            "claim": frame["claim"].map(as_html),
            "verdict": frame["verdict"].map(lines),
            "our runs": frame["our runs"].map(lines),
        }
    )
    caption = (
        "Differences of official test accuracies after the last epoch (or of what the rule names), in percentage "
        f"points, in brackets the {100 * LEVEL:.0f} % intervals, simultaneous for the parts of one claim. In "
        "parentheses: how the interval is made (see below), and of how many seeds. The same difference has another "
        "interval where it is one of more parts."
    )
    if any("these runs" in line for cell in frame["verdict"] for line in cell):
        caption += " “These runs” tells what the runs that there are say, where no interval tells how far that carries."
    return as_table(cells, "Claims", caption, markup=True, kind="claims")
