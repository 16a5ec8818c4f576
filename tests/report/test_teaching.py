"""The exercises and the glossary: each solution's code runs and says what its text says, each term is explained."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from docutils import nodes

from tests.shared import ROOT

BOOK = ROOT / "book"
SOLUTIONS = re.findall(r"```python\n(.*?)```", (BOOK / "exercises.md").read_text(encoding="utf-8"), re.S)
CHAPTERS = sorted(path for path in BOOK.glob("*.md") if path.stem != "glossary")


def solve(number: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(compile(SOLUTIONS[number - 1], f"solution {number}", "exec"), found)
    return found


def test_there_are_seven_exercises_with_a_solution_each() -> None:
    text = (BOOK / "exercises.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\d)\.", text, re.M) == list("1234567")
    assert len(SOLUTIONS) == text.count(":class: dropdown") == 7


def test_factor_per_layer_is_that_of_the_figures_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("VGGKIT_RESULTS", raising=False)
    assert solve(1)["factor"] == pytest.approx(0.41, abs=0.05)


def test_gradient_is_level_in_a_stage_where_input_and_error_are_not() -> None:
    found = solve(2)
    ratio = {name: min(found[name][found["stage"]]) / max(found[name][found["stage"]]) for name in ("inputs", "errors")}
    level = min(found["weights"][found["stage"]]) / max(found["weights"][found["stage"]])
    assert max(ratio.values()) < 0.01 and level > 0.3


def test_parameters_are_counted() -> None:
    assert solve(3)["total"] == 338_500


def test_least_loss_without_looking_is_ln_100() -> None:
    assert solve(4)["loss"].item() == pytest.approx(4.605170, abs=1e-6)


def test_he_initialisation_keeps_what_the_default_loses() -> None:
    left = solve(5)["left"]
    assert left["default"] < 1e-10 and left["he"] > 0.01


def test_backward_pass_of_bn_by_hand_is_autograds() -> None:
    assert solve(6)["by_hand"].shape == (50, 4)


def test_float32_keeps_at_two_sizes_more_what_bfloat16_keeps() -> None:
    kept = solve(7)["kept"]
    # Most of it at the one pair of depths, little at the other; how little, of so few images, is chance.
    assert min(kept[8]["bfloat16"], kept[20]["float32"]) > 0.5 > max(kept[14]["bfloat16"], kept[26]["float32"])


def test_terms_of_the_chapters_are_in_the_glossary_and_each_is_explained() -> None:
    text = (BOOK / "glossary.md").read_text(encoding="utf-8")
    entries = text.split("```{glossary}\n")[1].split("```")[0].strip().split("\n\n")
    told = {entry.split("\n")[0]: entry.split("\n", 1)[1].strip() for entry in entries}
    assert all(meaning.endswith(".") for meaning in told.values())
    assert list(told) == sorted(told, key=str.lower)
    used = {term for page in CHAPTERS for term in re.findall(r"{term}`(?:[^`<]*<)?([^`>]*)>?`", page.read_text())}
    assert used and {term.lower() for term in used} <= {term.lower() for term in told}


def test_links_to_terms_show_the_definition() -> None:
    glossary = pytest.importorskip("vggkit.site.glossary", reason="needs the extra `book`")
    item = nodes.definition_list_item("", nodes.term("", "batch", ids=["term-batch"]))
    item += nodes.definition("", nodes.paragraph("", "Images of\none step."))
    home = nodes.document(None, None)
    home += nodes.definition_list("", item)

    def link(target: str, kind: str) -> nodes.reference:
        return nodes.reference(
            "", "", nodes.inline("", "batch", classes=["std", kind]), refuri=f"glossary.html#{target}"
        )

    page, links = nodes.document(None, None), [link("term-batch", "std-term"), link("term-batch", "std-ref")]
    page += links
    objects = {("term", "batch"): ("glossary", "term-batch")}
    env = SimpleNamespace(get_domain=lambda _: SimpleNamespace(objects=objects), get_doctree={"glossary": home}.get)
    glossary._show_definitions(SimpleNamespace(env=env), page, "problem")
    assert [found.get("reftitle") for found in links] == ["Images of one step.", None]
