"""What verdicts hang on: claims judged anew under a choice that could have been made otherwise."""

from dataclasses import replace

from vggkit.config import RunConfig
from vggkit.report.claims import CLAIMS
from vggkit.report.judgements import judge
from vggkit.report.verdicts import OPEN, Group
from vggkit.runs.records import Run


def of_one_rate(runs: Group) -> dict[str, list[Run]]:
    """The same runs, all called runs at the usual learning rate: the rate then parts no kinds, the depth alone does."""
    usual = RunConfig().learning_rate
    return {
        name: [replace(run, config=replace(run.config, learning_rate=usual)) for run in group]
        for name, group in runs.items()
    }


def rates_told(runs: Group) -> str:
    """What changes in the verdicts where networks of one depth are of one kind, whatever their rate, as Markdown."""
    verdicts, parts = [], []
    alike = of_one_rate(runs)
    for claim in CLAIMS:
        before, after = judge(claim.key, runs), judge(claim.key, alike)
        if before.verdict != after.verdict:
            verdicts.append(f"“{claim.text}” {_told(after.verdict)} ({_told(before.verdict)})")
        for one, other in zip(before.parts, after.parts, strict=True):
            if one.verdict != other.verdict and one.compared:
                parts.append(f"{other.compared} {other.found}: {_told(other.verdict)} ({_told(one.verdict)})")
    if not verdicts and not parts:
        return "Taken together, they would give the same verdicts."
    text = f"Taken together, they would give {'these other' if verdicts else 'no other'} verdicts"
    text += f": {'; '.join(verdicts)}." if verdicts else "."
    if parts:
        text += f" Comparisons that would end otherwise, in brackets how they end here: {'; '.join(parts)}."
    return text


def _told(verdict: str | None) -> str:
    return {OPEN: "open", None: "no verdict"}.get(verdict, str(verdict))
