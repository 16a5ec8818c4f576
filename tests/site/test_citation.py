"""How the book is cited: the entry says what CITATION.cff says, and what it lacks is told in one line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.shared import ROOT

citation = pytest.importorskip("vggkit.site.citation", reason="needs the extra `book`")
FIELDS: dict[str, Any] = {
    "title": "kit: 50 % of a_b & c",
    "authors": [{"family-names": "Doe", "given-names": "Jane"}, {"name": "The Authors"}],
    "version": "1.2.0",
    "license": "MIT",
}


def entry(text: str) -> Any:
    """What pybtex, which makes the book's list of references, reads in it."""
    from pybtex.database import parse_string

    return parse_string(text, "bibtex")


def test_entry_says_what_the_file_says() -> None:
    fields = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    found = entry(citation.bibtex(citation.read(ROOT / "CITATION.cff"))).entries["vggkit"]
    assert found.fields["title"].strip("{}") == fields["title"]
    assert found.fields["version"] == str(fields["version"])
    assert fields["license"] in found.fields["note"]
    assert [str(person).strip("{}") for person in found.persons["author"]] == [
        author["name"] for author in fields["authors"]
    ]


def test_people_groups_and_signs_of_tex_are_kept() -> None:
    text = citation.bibtex(
        FIELDS | {"date-released": "2026-11-25", "doi": "10.1/x", "repository-code": "https://a.b/c"}
    )
    found = entry(text).entries["kit"]
    assert [str(person).strip("{}") for person in found.persons["author"]] == ["Doe, Jane", "The Authors"]
    assert found.fields["title"] == r"{kit: 50 \% of a\_b \& c}"
    assert (found.fields["year"], found.fields["doi"], found.fields["url"]) == ("2026", "10.1/x", "https://a.b/c")
    assert not {"year", "doi", "url"} & set(entry(citation.bibtex(FIELDS)).entries["kit"].fields)


@pytest.mark.parametrize(
    ("title", "key"), [("Größe: of nets", "grosze"), ("My (own) report", "my-own-report"), ("深い網", "report")]
)
def test_key_is_of_letters_that_bibtex_reads(title: str, key: str) -> None:
    assert list(entry(citation.bibtex(FIELDS | {"title": title})).entries) == [key]


@pytest.mark.parametrize("field", ["title", "authors", "version", "license"])
def test_missing_field_is_named_in_one_line(field: str, tmp_path: Path) -> None:
    place = tmp_path / "CITATION.cff"
    place.write_text(yaml.safe_dump({name: value for name, value in FIELDS.items() if name != field}))
    with pytest.raises(citation.CitationError, match=rf"^{field} is missing in CITATION\.cff; allowed: [^\n]*$"):
        citation.read(place)
    place.unlink()
    with pytest.raises(citation.CitationError, match=r"^CITATION\.cff cannot be read; allowed: [^\n]*$"):
        citation.read(place)


@pytest.mark.parametrize("authors", ["me", ["me"], [{"email": "a@b.c"}]])
def test_authors_that_nobody_can_cite_are_one_line(authors: object, tmp_path: Path) -> None:
    place = tmp_path / "CITATION.cff"
    place.write_text(yaml.safe_dump(FIELDS | {"authors": authors}))
    with pytest.raises(citation.CitationError, match=r"^authors: .* is not allowed in CITATION\.cff; allowed: [^\n]*$"):
        citation.read(place)


def test_one_name_is_enough_for_an_author() -> None:
    people = [{"given-names": "Plato"}, {"family-names": "Doe", "given-names": "Jane"}, {"name": "The Authors"}]
    assert list(map(citation.person, people)) == ["Plato", "Jane Doe", "The Authors"]
    assert "{Plato and Doe, Jane and {The Authors}}" in citation.bibtex(FIELDS | {"authors": people})


def test_foot_names_version_licence_and_commit() -> None:
    assert citation.foot(FIELDS, None) == "<p>kit 1.2.0 · licence MIT</p>"
    assert citation.foot(FIELDS, "0123456789abcdef") == "<p>kit 1.2.0 · licence MIT · commit 0123456789</p>"
    assert citation.foot(FIELDS, "0123456789abcdef+changes").endswith("commit 0123456789 with changes</p>")
    assert "&lt;b&gt;" in citation.foot(FIELDS | {"version": "<b>"}, None)


def test_book_shows_the_entry_as_a_block_that_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "book")
    box = citation.box()
    assert box.startswith("```bibtex\n@misc{vggkit,") and box.endswith("\n}\n```")
