"""Table and sentences of the chapter on the cause, made of measurements of untrained networks."""

import numpy as np
import pandas as pd

from vggkit.config import NUM_CLASSES
from vggkit.networks import theory
from vggkit.report.intervals import LEVEL
from vggkit.report.propagation import TINY, USUAL, e, ranged, seeds
from vggkit.report.render import html, power
from vggkit.report.untrained import DEEP, STEP32, STEPS, VARIANTS, Moved, Untrained, interval
from vggkit.runs.epsilon import Arm

LAST = 20  # steps, over which a loss is averaged
LITTLE = 0.05  # of the loss: with less below that of guessing a network has not learned
RETURNED = 10  # times, in every seed: a signal that has grown by more has come back
RETURNS = (
    "An optimiser without a floor can follow the small gradient of the first layers: their weights then move, and the "
    "signal behind them comes back. With the usual epsilon they do not move, and it does not. So it is the lost signal "
    "that leaves the last layers nothing to learn, and in plain VGG38 the vanished gradient, below Adam's epsilon, "
    "that keeps it lost."
)
STAYS = (
    "A small gradient can be made up for: with a small epsilon all layers move. Whether a lost signal can be, these "
    "steps are too few to tell: after them images are as good as alike before the linear layer. Only the first layers "
    "could bring the signal back, whose small gradient still tells images apart, and with the usual epsilon these do "
    "not move. The next chapter trains longer."
)


def table_html(measured: Untrained) -> str:
    """What arrives where in the networks of `DEEP` layers, with intervals, a row for each."""
    rows = []
    for initialisation in ("default", "he"):
        for variant in VARIANTS:
            first = (
                measured.rows(variant, initialisation, DEEP).set_index(["layer", "seed"])["weight_gradient"].unstack()
            )
            rows.append(
                {
                    "network": f"{variant}, {'default' if initialisation == 'default' else 'He'}",
                    "size": ranged(measured.at(variant, "size", DEEP, initialisation)),
                    "share that differs": ranged(measured.at(variant, "share", DEEP, initialisation)),
                    "directions": ranged(measured.at(variant, "effective_rank", DEEP, initialisation), "{:.1f}".format),
                    "gradient, first / last": ranged(interval(first.loc[1] / first.loc[DEEP])),
                    "error correlation": ranged(
                        measured.at(variant, "error_correlation", 2, initialisation), "{:.3f}".format
                    ),
                }
            )
    caption = (
        f"VGG38 before training, mean over seeds with its {100 * LEVEL:g} % interval. Of the linear layer's input: "
        "root mean square, the share of it that differs between images, and in how many directions it does (of "
        f"{measured.images - 1}: effective rank, the participation ratio of the squared singular values). Mean "
        "|gradient| of the first layer's weights over that of the linear layer's. Correlation between images of the "
        f"gradient of one random sum of logits by the second layer's input. <i>[{measured.images} images; "
        f"{measured.seeds()} seeds, {measured.seeds(DEEP, 'he')} after He; float64]</i>"
    )
    # A minus sign, unlike a hyphen, does not end a line within a number.
    # An interval may go on in the next line: the table has to fit the page.
    cells = pd.DataFrame(rows).map(lambda text: text.replace("-", "−").replace(",\N{NO-BREAK SPACE}", ", "))
    return html(cells, "Signal and error in VGG38 before training", caption, text=("network",))


def sentences(measured: Untrained, moved: Moved) -> dict[str, str]:
    """The chapter's sentences with numbers, as Markdown, by what they are about."""
    plain = {
        value: measured.by_layer("plain", value)["mean"] for value in ("share", "size", "correlation_gap", "error")
    }
    gradient = measured.by_layer("plain", "weight_gradient")["mean"]
    alike, coarse = (measured.by_layer("plain", f"{precision}_features")["mean"].loc[:DEEP] for precision in STEPS)
    worst = {precision: measured.by_layer("plain", f"{precision}_gradient")["mean"].min() for precision in STEPS}
    square, _ = theory.forward(DEEP, "default", plain["correlation_gap"][2], plain["size"][2] ** 2)[-1]
    usual, tiny, shallow = (Arm(DEEP, "default", USUAL), Arm(DEEP, "default", TINY), Arm(8, "default", USUAL))
    before, after = (moved.by_layer(tiny, f"share_{when}")["mean"] for when in ("before", "after"))
    distance = {arm: moved.by_layer(arm, "moved")["mean"] for arm in (usual, tiny)}
    control = {when: moved.by_layer(shallow, f"share_{when}")["mean"].iloc[-1] for when in ("before", "after")}
    losses = {arm: np.mean([travel.arms[arm].losses[-LAST:] for travel in moved.travels])
              for arm in (usual, tiny, shallow)}  # fmt: skip
    grown = [arm.share_after[DEEP - 1] / arm.share_before[DEEP - 1] for arm in (t.arms[tiny] for t in moved.travels)]
    deepest = int(measured.frame["depth"].max())
    under = int((measured.by_layer("plain", "float32_gradient", depth=deepest)["mean"] < 0.5).sum())
    bn, step, finer = theory.batch_norm_gain(), theory.gain("default") ** 0.5, STEPS["bfloat16"] / STEPS["float32"]
    return {
        "settings": (
            f"Every network sees one batch, the first {measured.images} training images of CIFAR-100 without "
            "augmentation, in training mode, so that BN takes its statistics from them; its weights are those with "
            f"which training begins. There are {_counted(measured)}, and one batch for all: an interval tells of other "
            "weights, not of other images."
        ),
        "forward": (
            f"The features themselves do not vanish: at the linear layer their size is {e(plain['size'][DEEP])}, "
            f"where the equations give {e(square**0.5)}, nearly all of it from biases. Two images' features there "
            f"have a correlation of 1 − {e(plain['correlation_gap'][DEEP])}."
        ),
        "gain": (
            f"With the report's slope the gain is {theory.gain('default'):.3f} of the mean square, "
            f"{theory.gain('default') ** 0.5:.2f} of the size, for each layer; the mean square of a small difference "
            f"falls to 1/e in {theory.depth_scale('default'):.2f} layers, its size in {DEEP - 2} layers to "
            f"{e(theory.gain('default') ** ((DEEP - 2) / 2))}, of which pooling and the images' edges take a part."
        ),
        "backward": (
            "Backwards the gain is the same, and nothing is added. Each pooling of 2 x 2 halves the error's norm, the "
            "mean over the 4 x 4 pixels before the linear layer quarters it, and a little is lost over the images' "
            f"edges: the error falls from {e(plain['error'][DEEP])} at the linear layer to {e(plain['error'][1])} at "
            "the images."
        ),
        "batch_norm": (
            f"For a large batch the error's mean square is {bn:.3f} times as large after each layer, its norm "
            f"{bn**0.5:.3f} times, whatever the variance of the weights. Measured is "
            f"{ranged(measured.factor('BN', 'growth'), '{:.3f}'.format)}. The equation takes a channel's values to be "
            "normal and independent. Those of noise are, and in a network that pads with the other side of its images "
            "instead of zeros a test of the library finds what the equation says. But in images neighbouring pixels "
            "are alike, and at the edges part of each kernel lies on zeros."
        ),
        "rounding": (
            f"Float32 has steps of {e(STEP32)} of a number's size, bfloat16 of {e(STEPS['bfloat16'])}. In the third "
            f"stage, where the share is {e(plain['share'][DEEP - 10])}, float32's cosine with what float64 finds is "
            f"{alike[DEEP - 10]:.2f}, bfloat16's {coarse[DEEP - 10]:.2f}; before the linear layer they are "
            f"{alike[DEEP]:.2f} and {coarse[DEEP]:.2f}.".replace("-", "−")
        ),
        "cliff": (
            f"For the linear layer of plain networks the square root is {_expected(measured, 'bfloat16', 14)} with 14 "
            f"layers in bfloat16, and {_expected(measured, 'float32', 26)} with 26 in float32. Each "
            f"layer multiplies the share by {step:.2f}, so that the {np.log2(finer):.0f} bits more of float32 last for "
            f"{np.log(finer) / -np.log(step):.0f} layers more."
        ),
        "gradient": (
            f"The gradient of the weights is right all the same, to a cosine of {worst['float32']:.4f} in its worst "
            f"layer in float32 and of {worst['bfloat16']:.2f} in bfloat16: even in the layer where it is smallest, at "
            f"{e(gradient.min())}, it is far above the smallest number of either, "
            f"{e(float(np.finfo(np.float32).tiny))}. They compute it nearly correctly, from features in which the "
            f"images are no longer told apart. In the plain network of {deepest} layers it is too small for float32 in "
            f"{under} of them."
        ),
        "epsilon": (
            f"At the first layer the gradient is {e(gradient[1])}, {e(gradient[1] / USUAL)} of Adam's epsilon. In "
            f"{moved.steps} steps its weights move by {e(distance[usual][1])} of their norm with the epsilon of "
            f"{power(USUAL, 1)}, and by {e(distance[tiny][1])} with {power(TINY, 1)}; those of the last convolution "
            f"move by {e(distance[usual][DEEP - 1])} and {e(distance[tiny][DEEP - 1])}."
        ),
        "returns": (
            f"With {power(TINY, 1)} the share that differs between images goes from {e(before[DEEP // 2])} to "
            f"{e(after[DEEP // 2])} in the middle of the network. Before the linear layer, where it was "
            f"{e(before[DEEP])}, it becomes {', '.join(map(e, sorted(grown)))} times as large, by seed: not the same "
            "in each. In VGG08 with the usual epsilon as many steps raise that of the logits from "
            f"{e(control['before'])} to {e(control['after'])}. The loss over the last {LAST} steps is "
            f"{losses[usual]:.3f} in plain VGG38 with the usual epsilon, {losses[tiny]:.3f} with the small one, and "
            f"{losses[shallow]:.3f} in VGG08; guessing gives {np.log(NUM_CLASSES):.3f}."
            + " So few steps teach VGG08 nothing either: the losses do not tell who will learn."
            * bool(losses[shallow] > np.log(NUM_CLASSES) - LITTLE)
        ),
        "verdict": RETURNS if min(grown) > RETURNED else STAYS,
    }


def why() -> str:
    """The cause in a sentence, as Markdown."""
    return (
        "Behind both is the scale of the weights: begun as PyTorch does by default, a plain layer passes on "
        f"{theory.gain('default') ** 0.5:.2f} of what tells images apart, and of the error on its way back, which over "
        f"{DEEP - 2} layers is {e(theory.gain('default') ** ((DEEP - 2) / 2))}."
    )


def _expected(measured: Untrained, precision: str, depth: int) -> str:
    """What theory leaves of the plain network's signal at the linear layer, and what is measured."""
    share = measured.by_depth("plain", "share").loc[depth, "mean"]
    left = measured.by_layer("plain", f"{precision}_features", depth=depth).loc[depth, "mean"]
    return f"{theory.rounded_cosine(share, STEPS[precision]):.2f} (measured: a cosine of {left:.2f})"


def _counted(measured: Untrained) -> str:
    """How many seeds there are, in words; of networks that have fewer than the others, how many they have."""
    most, he, deepest = measured.seeds(), measured.seeds(DEEP, "he"), measured.seeds(int(measured.frame["depth"].max()))
    fewer = f"{seeds(he)} after He initialisation" * (he < most)
    deep = f"{seeds(deepest)} of more than {DEEP} layers" * (deepest < most)
    return " and ".join(filter(None, [", ".join(filter(None, [seeds(most), fewer])), deep]))
