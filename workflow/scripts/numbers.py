"""What tables and figures show of a variant's runs: a row for each run, and a row for each epoch over its seeds."""

import pandas as pd

from vggkit.runs.schema import MEASURED
from vggkit.runs.store import read_run

runs = [read_run(folder) for folder in snakemake.params.folders]
rows = [
    run.config.to_dict()
    | {"name": run.config.name, "diverged": run.summary["diverged"], "seconds": run.summary["wall_seconds"]}
    | {key: run.summary["final"][key] for key in MEASURED}
    for run in runs
]
pd.DataFrame(rows).to_csv(snakemake.output.runs, index=False, lineterminator="\n")

epochs = pd.concat([run.metrics for run in runs if not run.summary["diverged"]] or [runs[0].metrics.iloc[:0]])
curves = epochs.groupby("epoch")[[name for name in MEASURED if name in epochs]].agg(["mean", "std"])
curves.columns = ["_".join(column) for column in curves.columns]
curves.insert(0, "seeds", epochs.groupby("epoch").size())
curves.insert(0, "name", runs[0].config.name)
curves.reset_index().to_csv(snakemake.output.curves, index=False, lineterminator="\n")
