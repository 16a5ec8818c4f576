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
# Table 1 and the runs on common axes, for the finished runs of all seven configurations.

# %% tags=["parameters", "hide-input"]
seed: int = 0  # which seed the figure shows; the table has all
results: str = None  # folder of results; else VGGKIT_RESULTS; else results/ of this project

# %% tags=["remove-cell"]
from IPython.display import HTML

from vggkit.report import figures, pages, render, tables

runs, shown_seed = pages.comparison(globals())

# %% [markdown]
# ## Table 1

# %% tags=["hide-input"]
HTML(render.table1_html(tables.table1(runs)))

# %% [markdown]
# ## Accuracy and gradients

# %% tags=["hide-input"]
figures.comparison(runs, shown_seed)
