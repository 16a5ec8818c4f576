"""The drawing of the networks: each box of it is a module of the network, and the page's switches are its own."""

import re
from xml.etree import ElementTree

import pytest
from torch import nn

from vggkit.config import RunConfig
from vggkit.networks.vgg import VGG, ProcessingBlock
from vggkit.report import sketch

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(("depth", "batch_norm", "residual"), [(8, False, False), (14, False, True), (38, True, True)])
def test_blocks_are_those_of_the_network(depth: int, batch_norm: bool, residual: bool) -> None:
    config = RunConfig(depth=depth, batch_norm=batch_norm, residual=residual)
    model = VGG.from_config(config)
    found = sketch.blocks(config)
    for block in found:
        part = model.get_submodule(block.name)
        layers = [module for module in part.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        assert block.layers == len(layers)
        assert {block.biases} == {layer.bias is not None for layer in layers}
        assert block.norms == sum(isinstance(module, nn.BatchNorm2d) for module in part.modules())
        assert block.shortcut == (isinstance(part, ProcessingBlock) and part.residual)
        assert block.kind == ("processing" if isinstance(part, ProcessingBlock) else block.name.split(".")[-1])
    assert sum(block.layers for block in found) == depth


def svgs() -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", sketch.drawn(), re.S)]


def count(svg: ElementTree.Element, name: str) -> int:
    return sum(name in element.get("class", "").split() for element in svg.iter())


def test_towers_show_every_block_bias_norm_and_shortcut() -> None:
    towers, inside = svgs()
    both = [RunConfig(depth=depth, batch_norm=False, residual=False) for depth in (8, 38)]
    parts = [block for config in both for block in sketch.blocks(config)]
    for kind in ("entry", "processing", "reduction", "classifier"):
        assert count(towers, kind) == sum(block.kind == kind for block in parts)
    assert count(towers, "biases") == sum(block.biases for block in parts) == 8
    assert count(towers, "norm") == 2  # the entry's
    deep = RunConfig(depth=38, batch_norm=True, residual=True)
    assert count(towers, "rc") == sum(block.shortcut for block in sketch.blocks(deep)) == 15
    assert count(towers, "bn") == 18 + 1  # the blocks', and the number of parameters
    words = [element.text for element in towers.iter(f"{SVG}text")]
    assert {"59,716", "336,196", "338,500", "32×32", "16×16", "8×8"} <= set(words)
    assert count(inside, "convolution") == 4 and count(inside, "biases") == 2
    assert count(inside, "bn") == count(inside, "no-bn") == 4
    assert count(inside, "pool") == 1 and count(inside, "no-rc") == 1


def test_switches_work_without_a_script_and_everything_is_told_in_words() -> None:
    page = sketch.drawn()
    assert "<script" not in page and page.count('type="checkbox"') == 2
    for name in ("bn", "rc"):
        assert f'id="sketch-{name}"' in page and f'for="sketch-{name}"' in page
        assert f"#sketch-{name}:checked ~ .panels .{name}" in page
    told = sketch.describe()
    assert f'aria-label="{told}"' in page
    for word in ("VGG08", "VGG38", "5 processing blocks", "59,716", "336,196", "338,500", "without biases", "shortcut"):
        assert word in told
    # All text is in the page's colour, and none is so wide that a phone would shrink it.
    assert not re.search(r"<(text|tspan)[^>]*(fill|color)", page)
    assert all(float(svg.get("viewBox", "").split()[2]) <= 340 for svg in svgs())
