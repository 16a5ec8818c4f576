"""The numbers of all variants in one table each, and means with standard deviations over the seeds."""

import pandas as pd

from vggkit.runs.schema import MEASURED

for kind in ("runs", "curves"):
    whole = pd.concat([pd.read_csv(path) for path in snakemake.input[kind]])
    whole.to_csv(snakemake.output[kind], index=False, lineterminator="\n")

runs = pd.read_csv(snakemake.output.runs)
counted = runs.groupby("name", sort=False)["diverged"].agg(seeds="size", diverged="sum")
# A diverged run has no loss: means of all metrics are over the same seeds, those that did not diverge.
means = runs[~runs["diverged"]].groupby("name", sort=False)[MEASURED].agg(["mean", "std"])
means.columns = ["_".join(column) for column in means.columns]
counted.join(means).to_csv(snakemake.output.table, lineterminator="\n")
