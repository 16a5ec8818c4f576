# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # All runs, side by side
#
# Table 1 and the runs on common axes, for the finished runs of all seven configurations. Then two of them, or two
# suites, in detail: which settings differ, how they learn, and how far apart they end.

# %% tags=["parameters", "hide-input"]
first: str = None  # SUITE, SUITE/NAME or SUITE/NAME/seed-N; else the first configuration of Table 1 that has runs
second: str = None  # the other side, as first; else the next configuration that has runs
seed: int = 0  # which seed the figure of all runs shows; the tables have all
results: str = None  # folder of results; else VGGKIT_RESULTS; else results/ of this project

# %% tags=["remove-cell"]
from vggkit.report import comparing, figures, pages, render, tables

runs, shown_seed = pages.comparison(globals())
place = pages.results_folder(results)
sides = comparing.of_book(place, pages.text("first", first), pages.text("second", second))

# %% [markdown]
# ## Table 1

# %% tags=["hide-input"]
render.table1_html(tables.table1(runs))

# %% [markdown]
# ## Accuracy and gradients

# %% tags=["hide-input"]
figures.comparison(runs, shown_seed)

# %% [markdown]
# ## Two sides
#
# The parameters `first` and `second` name them. A side is a run, a configuration with all its seeds, or a suite, whose
# configurations are then laid side by side one by one.

# %% tags=["hide-input"]
comparing.as_html(sides.settings) if sides else "Only one configuration has runs yet."

# %% tags=["hide-input"]
comparing.figure(sides) if sides else None

# %% tags=["hide-input"]
comparing.as_html(sides.differences) if sides else None
