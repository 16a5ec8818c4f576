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
# # A run, layer by layer
#
# One configuration: its settings, curves, gradient flow and final metrics. Its parameters stand in the first cell;
# with others, a finished run is loaded, and anything else is trained (in a suite of the book only if asked to).

# %% tags=["parameters", "hide-input"]
configuration: str = "vgg08"  # which row of Table 1 to start from: vgg08, vgg38, vgg38_bn, vgg38_rc, ...
suite: str = "local"  # group of runs, its folder in results/; "table1", "short" and "preview" hold the book's
depth: int = None  # layers with weights: 8 + 6 x blocks per stage; None here and below: the configuration's own
batch_norm: bool = None  # batch normalisation in processing and reduction blocks
residual: bool = None  # identity shortcut around each processing block
reduction_shortcut: bool = None  # shortcut around each reduction block too: its input, pooled
initialisation: str = None  # default, he or lsuv
skip_init: bool = None  # a learned factor, 0 at first, before each shortcut is added
dropout: float = None  # probability of dropping a feature before the linear layer
dataset: str = None  # cifar100, or synthetic, which needs no files
train_images_per_class: int = None  # training images of each class
split_seed: int = None  # draws the validation images
batch_size: int = None  # images per training step
epochs: int = None  # passes over the training images
learning_rate: float = None  # Adam's learning rate in the first epoch
minimum_learning_rate: float = None  # where cosine annealing ends
schedule: str = None  # cosine, constant or cosine-per-batch
weight_decay: float = None  # L2 penalty added to the gradient by Adam
decoupled_weight_decay: bool = None  # weights decay by themselves, not by the gradient
adam_epsilon: float = None  # added by Adam to a gradient's running size, by which it divides
precision: str = None  # float32, tf32 (GPU) or bfloat16
seed: int = None  # draws initial weights, batch order, augmentation, dropout
train: bool = None  # train what is not finished; None: yes, but not in a suite of the book, which may take hours
data: str = None  # folder that holds cifar-100-python; else VGGKIT_DATA; else data/ of this project, downloaded once
results: str = None  # folder of results; else VGGKIT_RESULTS; else results/ of this project

# %% tags=["remove-cell"]
from IPython.display import Markdown

from vggkit.report import figures, pages, render, tables

# %% tags=["hide-input"]
run = pages.run(globals())
Markdown(pages.heading(run))

# %% [markdown]
# ## Configuration

# %% tags=["hide-input"]
pages.settings_table(run)

# %% [markdown]
# ## Curves

# %% tags=["hide-input"]
figures.curves([run])

# %% [markdown]
# ## Gradient flow

# %% tags=["hide-input"]
figures.gradient_flow(run)

# %% tags=["hide-input"]
figures.gradient_heatmap(run)

# %% tags=["hide-input"]
figures.gradient_heatmap(run, statistic="update_ratio")

# %% [markdown]
# ## Final metrics
#
# After the last epoch, beside the report's row where it has one.

# %% tags=["hide-input"]
render.run_html(tables.run_table(run))

# %% [markdown]
# ## Where the data of this page are

# %% tags=["hide-input"]
Markdown(pages.provenance(run))

# %% [markdown]
# ## The same run once more

# %% tags=["hide-input"]
Markdown(pages.again(run))
