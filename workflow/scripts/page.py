"""The executed page of a variant: the run notebook, with the finished run of its first seed."""

from pathlib import Path

from vggkit.site.notebooks import execute_page

chosen = snakemake.params
execute_page(Path(chosen.source), Path(snakemake.output[0]), Path(chosen.results), chosen.parameters)
