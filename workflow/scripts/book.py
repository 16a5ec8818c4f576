"""The book: the pages that it shows of this study put in their place, the comparison executed, and all of it built."""

import shutil
import subprocess
import sys
from pathlib import Path

from vggkit.site.executed import shown_runs
from vggkit.site.notebooks import execute

project, results = Path(snakemake.params.project), Path(snakemake.params.results)
pages = project / "book/runs"
for page in map(Path, snakemake.input.pages):
    # The book may show a configuration's run of a fuller suite, or none under this name.
    if (
        f"{snakemake.params.suite}/{page.stem}/seed-0" in shown_runs(results, page.stem)
        and (pages / page.name).exists()
    ):
        shutil.copyfile(page, pages / page.name)
list(execute([], results=results, output=pages, source=project / "notebooks"))
build = [sys.executable, "-m", "jupyter_book.cli.main", "build", "book/", "--all", "-W", "--keep-going"]
with Path(snakemake.log[0]).open("w") as log:
    status = subprocess.run(build, cwd=project, stdout=log, stderr=subprocess.STDOUT).returncode
sys.exit(status)
