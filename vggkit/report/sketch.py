"""A drawing of the networks, made of the names and shapes of their parameters; BN and RC are switched on in the page.

The switches are two check boxes and a style sheet, so that they work without a script. All text is in the page's
colour, and the two panels stand below each other where the page is narrow, at the size at which they are drawn.
"""

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass

from vggkit.config import IMAGE_SIZE, NEGATIVE_SLOPE, NUM_STAGES, RunConfig
from vggkit.report.markup import Html, without_tags
from vggkit.runs.schema import parameter_shapes

WIDTH = 330  # of a panel, in pixels: a phone's page is as wide
ROW, GAP = 17, 4  # of a block in a tower, and between two
BLUE, GREEN, ORANGE, VIOLET = "#3f7fd0", "#2e9e5b", "#d9822b", "#9b6bd6"  # seen on white and on black

STYLE = f"""<style>
.vggkit-sketch .panels {{ display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }}
.vggkit-sketch svg {{ flex: 0 1 {1.2 * WIDTH:.0f}px; min-width: 0; height: auto; }}
.vggkit-sketch svg {{ font: 11px sans-serif; fill: currentColor; }}
.vggkit-sketch label {{ margin-right: 1.2em; }}
.vggkit-sketch :is(.bn, .rc) {{ display: none; }}
#sketch-bn:checked ~ .panels .bn, #sketch-rc:checked ~ .panels .rc {{ display: inline; }}
#sketch-bn:checked ~ .panels .no-bn, #sketch-rc:checked ~ .panels .no-rc {{ display: none; }}
</style>"""


@dataclass(frozen=True)
class Block:
    """A part of a network that its parameters' names tell apart, from input to output.

    Attributes:
        name: as in the parameters' names, such as stages.stage1.reduction.
        layers: how many of its tensors count as layers: convolutions, or the linear one.
        biases: whether its layers have biases.
        norms: how many BN it has.
        shortcut: whether its input is added to its output.
    """

    name: str
    layers: int
    biases: bool
    norms: int
    shortcut: bool

    @property
    def kind(self) -> str:
        """entry, processing, reduction or classifier."""
        last = self.name.rpartition(".")[2]
        return "processing" if last.startswith("block") else last


def blocks(config: RunConfig) -> list[Block]:
    """The network of `config`, block by block, as `runs.schema.parameter_shapes` names its parameters."""
    parts: dict[str, list[str]] = {}
    for parameter in parameter_shapes(config):
        names = parameter.split(".")
        parts.setdefault(".".join(names[:3] if names[0] == "stages" else names[:1]), []).append(parameter)
    found = []
    for name, parameters in parts.items():
        norms = [parameter for parameter in parameters if ".bn" in parameter]
        layers = [parameter for parameter in parameters if parameter not in norms]
        shortcut = config.residual and ".block" in name
        biases = any(parameter.endswith("bias") for parameter in layers)
        count = sum(parameter.endswith("weight") for parameter in layers)
        found.append(Block(name, count, biases, len(norms) // 2, shortcut))
    return found


def describe() -> str:
    """The drawing in words, for those who do not see it."""
    sentences = []
    for depth in (8, 38):
        network = RunConfig(depth=depth, batch_norm=False, residual=False)
        kinds = [block.kind for block in blocks(network)]
        each = kinds.count("processing") // NUM_STAGES
        before = f"{each} processing blocks and " if each else ""
        sentences.append(
            f"VGG{depth:02d}: an entry convolution with BN, then {NUM_STAGES} stages of {before}1 reduction block, "
            f"then a linear layer; {network.parameters:,} parameters, with BN "
            f"{RunConfig(depth=depth, batch_norm=True, residual=False).parameters:,}."
        )
    return " ".join(
        [
            *sentences,
            "A processing block is two convolutions without biases; RC add its input to what comes out, before the "
            "last activation. A reduction block is two convolutions with biases and 2×2 average pooling between them, "
            "and has no shortcut. BN follows each convolution.",
        ]
    )


def drawn() -> Html:
    """VGG08, VGG38 and both kinds of block as HTML that stands by itself, with switches for BN and RC."""
    label = html.escape(describe())
    switches = (
        '<input type="checkbox" id="sketch-bn"> <label for="sketch-bn">with BN</label>'
        '<input type="checkbox" id="sketch-rc"> <label for="sketch-rc">with RC</label>'
    )
    slope = f"{NEGATIVE_SLOPE:g}"
    caption = (
        "VGG08 and VGG38 from the image (top) to the logits; each box is a block, at its right the number of its "
        "layers with weights. Then, what is inside a block. "
        "<b>b</b>: with biases. Green: BN, which the entry has in every variant. Violet: the shortcut of RC. The "
        f"switches change VGG38; VGG08 stands as the report has it. LeakyReLU has the slope {slope} below zero."
    )
    return Html(
        f'{STYLE}<figure class="vggkit-figure vggkit-sketch" style="margin:1.5em 0">{switches}'
        f'<div class="panels" role="img" aria-label="{label}">{_towers()}{_insides()}</div>'
        f'<figcaption style="font-size:0.9em;color:inherit;text-align:left">{caption}</figcaption></figure>',
        f"[Figure: {describe().rstrip('.')}. {without_tags(caption)}]",
    )


def _svg(height: float, parts: Iterator[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str = "middle", extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {extra}>{text}</text>'


def _box(x: float, y: float, width: float, height: float, colour: str, extra: str = "") -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="{colour}" fill-opacity="0.25" '
        f'stroke="{colour}" {extra}/>'
    )


def _line(points: str, colour: str = "currentColor", extra: str = "") -> str:
    return f'<path d="{points}" fill="none" stroke="{colour}" {extra}/>'


def _towers() -> str:
    """VGG08 and VGG38 side by side, stage beside stage; the rows are those of the deeper one."""
    deep = blocks(RunConfig(depth=38, batch_norm=True, residual=True))
    shallow = {block.name: block for block in blocks(RunConfig(depth=8, batch_norm=False, residual=False))}
    plain = {block.name: block for block in blocks(RunConfig(depth=38, batch_norm=False, residual=False))}
    return _svg(22 + len(deep) * (ROW + GAP) + 32, _tower_parts(deep, plain, shallow))


def _tower_parts(deep: list[Block], plain: dict[str, Block], shallow: dict[str, Block]) -> Iterator[str]:
    first, second, width = 48, 192, 104
    yield _text(first + width / 2, 12, "VGG08", extra='font-weight="bold"')
    yield _text(second + width / 2, 12, "VGG38", extra='font-weight="bold"')
    y, stage, last = 20.0, "", None
    for block in deep:
        here = block.name.split(".")[1] if block.kind in ("processing", "reduction") else block.kind
        if here != stage and here.startswith("stage"):
            side = IMAGE_SIZE >> (int(here.removeprefix("stage")) - 1)
            yield _text(42, y + 12, f"{side}×{side}", "end")
        stage = here
        if block.name in shallow:
            if last is not None:
                yield _line(f"M{first + width / 2:g} {last:g}V{y:g}")
            yield from _block(shallow[block.name], first, y, width)
            last = y + ROW
        if block is not deep[0]:
            yield _line(f"M{second + width / 2:g} {y - GAP:g}v{GAP}")
        yield from _block(plain[block.name], second, y, width)
        if block.norms > plain[block.name].norms:
            yield _box(second + width - 8, y, 8, ROW, GREEN, 'class="bn"')
        if block.shortcut:
            edge = second + width
            yield _line(f"M{edge} {y + 2:g}c18 0 18 {ROW - 4} 0 {ROW - 4}", VIOLET, 'class="rc" stroke-width="2"')
        y += ROW + GAP
    for x, depth, names in ((first, 8, ("",)), (second, 38, ("no-bn", "bn"))):
        for name in names:
            count = RunConfig(depth=depth, batch_norm=name == "bn", residual=False).parameters
            yield _text(x + width / 2, y + 11, f"{count:,}", extra=f'class="{name}"')
        yield _text(x + width / 2, y + 24, "parameters")


def _block(block: Block, x: float, y: float, width: float) -> Iterator[str]:
    """A block of a tower: its kind, "b" where it has biases, and how many layers with weights it has."""
    name = {"classifier": "linear", "processing": "process", "reduction": "reduce"}.get(block.kind, block.kind)
    yield _box(x, y, width, ROW, BLUE if block.kind != "reduction" else ORANGE, f'class="{block.kind}"')
    yield _text(x + 6, y + 12.5, name, "start")
    if block.biases:
        yield _text(x + width - 30, y + 12.5, "b", extra='class="biases" font-weight="bold"')
    if block.norms:
        yield _box(x + width - 8, y, 8, ROW, GREEN, 'class="norm"')
    yield _text(x + width - 16, y + 12.5, str(block.layers))


def _insides() -> str:
    """What a processing block and a reduction block do, from top to bottom."""
    shapes = parameter_shapes(RunConfig(depth=38, batch_norm=True, residual=True))
    return _svg(284, _inside_parts(shapes))


def _inside_parts(shapes: dict[str, tuple[int, ...]]) -> Iterator[str]:
    steps = {
        "block1": ("conv1", "bn1", "act", "conv2", "bn2", "add", "act"),
        "reduction": ("conv1", "bn1", "act", "pool", "conv2", "bn2", "act"),
    }
    for x, block, title in ((26, "block1", "processing block"), (188, "reduction", "reduction block")):
        middle = x + 66
        yield _text(middle, 12, title, extra='font-weight="bold"')
        y = 20.0
        for step in steps[block]:
            yield _line(f"M{middle} {y:g}v10")
            y += 10
            height = 34.0 if step.startswith("conv") else 22.0
            yield from _step(step, f"stages.stage1.{block}.{step}", shapes, x, y, height)
            if step == "add":
                start = 24
                yield _line(
                    f"M{middle} {start}H{x - 14}V{y + 11:g}H{middle - 10}", VIOLET, 'class="rc" stroke-width="2"'
                )
            y += height
        yield _line(f"M{middle} {y:g}v12")


def _step(step: str, name: str, shapes: dict[str, tuple[int, ...]], x: float, y: float, height: float) -> Iterator[str]:
    """One operation inside a block; what BN and RC add is a mere line while they are switched off."""
    width, middle = 132, x + 66
    if step.startswith("conv"):
        shape = shapes[f"{name}.weight"]  # filters, channels, height, width
        weights = f"{math.prod(shape):,} weights"
        yield _box(x, y, width, height, BLUE, 'class="convolution"')
        yield _text(middle, y + 14, f"conv {shape[2]}×{shape[3]}")
        bias = shapes.get(f"{name}.bias")
        more = f' + <tspan class="biases" font-weight="bold">{bias[0]} b</tspan>' if bias else ""
        yield _text(middle, y + 28, weights + more)
    elif step.startswith("bn"):
        count = 2 * shapes[f"{name}.weight"][0]
        yield _line(f"M{middle} {y:g}v{height:g}", extra='class="no-bn"')
        yield f'<g class="bn">{_box(x, y, width, height, GREEN)}{_text(middle, y + 15, f"BN, {count} parameters")}</g>'
    elif step == "add":
        yield _line(f"M{middle} {y:g}v{height:g}", extra='class="no-rc"')
        circle = f'<circle cx="{middle}" cy="{y + 11:g}" r="10" fill="{VIOLET}" fill-opacity="0.25" stroke="{VIOLET}"/>'
        yield f'<g class="rc">{circle}{_text(middle, y + 15, "+")}</g>'
    else:
        colour = "#808080" if step == "act" else ORANGE
        yield _box(x, y, width, height, colour, f'class="{step}"')
        yield _text(middle, y + 15, "LeakyReLU" if step == "act" else "average pool 2×2")
