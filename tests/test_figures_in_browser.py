"""Values of a figure under pointer and keyboard, as a reader meets them in a browser; it wants the book built."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vggkit.runs import select

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
HTML = ROOT / "book/_build/html/problem.html"
CURVES, FLOW = 0, 2  # among the figures of the page: of VGG08 and VGG38, and the gradient of VGG38
READY = "document.querySelectorAll('figure.vggkit-figure svg[tabindex]').length > 4"


@pytest.fixture(params=["served", "as a file"])
def address(request: pytest.FixtureRequest, site: str) -> str:
    return f"{site}/problem.html" if request.param == "served" else HTML.as_uri()


@pytest.fixture(scope="module")
def pair() -> dict[str, Any]:
    return select.one_suite(select.all_runs(ROOT / "results"), ("vgg08", "vgg38"))


def told(figure: Any) -> tuple[int, dict[str, float]]:
    """What the live region says: the position on the axis, and each line's value."""
    rows = figure.locator(".vggkit-told > *").all()
    position = re.search(r"\d+", rows[0].inner_text())
    assert position and figure.locator(".vggkit-told").get_attribute("role") == "status"
    found = {}
    for row in rows[1:]:
        name, _, shown = row.text_content().rpartition(": ")
        spoken = row.locator(".spoken").all_text_contents()
        found[name] = float((spoken or [shown])[0])
    return int(position[0]), found


def test_keys_walk_along_the_layers_and_from_epoch_to_epoch(
    address: str, open_page: Callable[..., Any], site: str, pair: dict[str, Any]
) -> None:
    page = open_page(address, ready=READY)
    figure = page.locator("figure.vggkit-figure").nth(FLOW)
    rows = pair["vgg38"].gradients.query("over == 'last' and kind != 'bn'").set_index(["epoch", "layer"])["mean_abs"]
    layers = sorted(rows.index.unique("layer"))
    figure.locator("svg[tabindex]").nth(1).focus()
    for key in ("Home", "ArrowRight", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    position, values = told(figure)
    assert position == 2 and values == pytest.approx({"epoch 3": rows[3, layers[1]]}, rel=0.006)
    assert figure.locator(".vggkit-mark circle").count() == 1
    page.keyboard.press("End")
    assert told(figure)[0] == len(layers)
    page.keyboard.press("Escape")
    assert figure.locator(".vggkit-told").inner_text() == ""
    origin = ("file:", "data:") if address.startswith("file") else (site, "data:")
    assert page.requests and all(url.startswith(origin) for url in page.requests)
    assert page.errors == []


@pytest.mark.parametrize("width", [390, 1280])
def test_pointer_and_finger_tell_the_values_of_all_lines(
    width: int, open_page: Callable[..., Any], site: str, pair: dict[str, Any]
) -> None:
    page = open_page(f"{site}/problem.html", ready=READY, width=width, has_touch=width < 500)
    figure = page.locator("figure.vggkit-figure").nth(CURVES)
    drawing = figure.locator("svg[tabindex]").first
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    place = box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5
    (page.touchscreen.tap if width < 500 else page.mouse.move)(*place)
    epoch, values = told(figure)
    assert 1 < epoch < len(pair["vgg08"].metrics)
    found: dict[tuple[str, str], float] = {}
    for run in pair.values():
        row = run.metrics.set_index("epoch").loc[epoch]
        found |= {(run.config.name, split): row[f"{split}_loss"] for split in ("train", "validation")}
    assert sorted(values.values()) == pytest.approx(sorted(pd.Series(found)), rel=0.006)
    inside = figure.locator(".vggkit-told").bounding_box()
    assert inside["x"] >= 0 and inside["x"] + inside["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_the_drawing_and_its_files_are_there(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(address, java_script_enabled=False)
    figure = page.locator("figure.vggkit-figure").first
    assert figure.locator("svg").first.is_visible()
    assert figure.locator(".vggkit-downloads a").all_inner_texts() == ["PNG", "CSV"]


def test_a_figure_is_handed_out_as_one_drawing_that_needs_no_page(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(address, ready=READY)
    figure = page.locator("figure.vggkit-figure").nth(FLOW)
    figure.locator("svg[tabindex]").first.focus()
    page.keyboard.press("Home")  # what stands under the cursor is no part of the drawing
    assert figure.locator(".vggkit-downloads a").all_inner_texts() == ["SVG", "PNG", "CSV"]
    with page.expect_download() as download:
        figure.get_by_text("SVG", exact=True).click()
    assert re.fullmatch(r"figure-\d+\.svg", download.value.suggested_filename)
    root = ET.parse(download.value.path()).getroot()
    panels = list(root)
    assert len(panels) == figure.locator("svg[tabindex]").count() == 2
    edges = [(float(panel.get("x", "0")), float(panel.get("width", "0"))) for panel in panels]
    assert edges[0][0] + edges[0][1] < edges[1][0]
    assert float(root.get("viewBox", "").split()[2]) == pytest.approx(sum(edges[1]), abs=0.01)
    assert not root.findall(".//*[@class='vggkit-mark']")
    assert page.errors == []


def test_many_small_panels_tell_their_values_and_are_handed_out_in_rows(
    open_page: Callable[..., Any], site: str, pair: dict[str, Any]
) -> None:
    page = open_page(f"{site}/cause-training.html", ready=READY, width=390)
    figure = page.locator("figure.vggkit-figure").first
    panels = figure.locator(':scope [role="group"] > svg')
    boxes = [panels.nth(place).bounding_box() for place in range(3)]
    assert boxes[0]["y"] == boxes[1]["y"] < boxes[2]["y"]  # two in a row on a phone
    assert boxes[1]["x"] + boxes[1]["width"] <= 390
    panels.nth(1).focus()
    for key in ("Home", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    rows = pair["vgg38"].gradients.query("over == 'mean' and kind != 'bn' and epoch == 2").sort_values("layer")
    epoch, values = told(figure)
    assert (epoch, list(values)) == (2, ["layer 2"])
    assert values["layer 2"] == pytest.approx(rows["mean_abs"].iloc[1], rel=0.006)
    with page.expect_download() as download:
        figure.get_by_text("SVG", exact=True).click()
    root = ET.parse(download.value.path()).getroot()
    places = {(float(panel.get("x", "nan")), float(panel.get("y", "nan"))) for panel in root}
    assert len(places) == len(list(root)) == panels.count()
    assert len({down for _, down in places}) > 1
    width, height = (float(side) for side in root.get("viewBox", "").split()[2:])
    for panel in root:
        x, y, across, down = (float(panel.get(name, "nan")) for name in ("x", "y", "width", "height"))
        assert x + across <= width + 0.01 and y + down <= height + 0.01
    assert page.errors == []
