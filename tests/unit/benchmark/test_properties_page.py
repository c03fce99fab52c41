"""Whatever a record says stays text on the page, and numbers that no figure bears are refused."""

import html
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.page.command import write_page
from benchmark.page.gather import gather
from benchmark.page.markup import element, escaped
from benchmark.page.node import Node
from pipelines.errors import DataError
from preprocess.untrusted import printable_lines
from tests.unit.benchmark.page_records import profile_results, record

ODD = st.text(st.characters(exclude_categories=()) | st.sampled_from("<>&\"'`=-!"), max_size=40)


@given(ODD)
def test_text_stays_text(text: str) -> None:
    shown = escaped(text)
    shown.encode("utf-8")
    assert not set(shown) & set("<>\"'")
    assert re.sub(r"&(amp|lt|gt|quot|#x27);", "", shown).count("&") == 0
    assert html.unescape(shown) == printable_lines(text)
    assert escaped(shown) is shown


@given(ODD, ODD)
def test_an_element_is_one_element_whatever_it_holds(content: str, attribute: str) -> None:
    drawn = element("p", content, title=attribute)
    assert re.findall(r"<[^>]*>", drawn) == [f'<p title="{escaped(attribute)}">', "</p>"]


@pytest.mark.parametrize("value", [10**400, -(10**400), 1e31, float("nan"), float("inf"), True, "1", [1]])
def test_numbers_that_no_figure_bears_are_refused(value: Any) -> None:
    node = Node({"x": value, "xs": [1.0, value]}, "r.json: results")
    with pytest.raises(DataError, match=r"r\.json: results\.x is .*, expected a number"):
        node.number("x")
    with pytest.raises(DataError, match=r"r\.json: results\.xs is .*, expected a list of numbers"):
        node.numbers("xs")


@given(ODD, ODD)
def test_names_and_texts_of_a_record_are_one_printable_line(name: str, text: str) -> None:
    ((found, value),) = Node({"flags": {name: text}}, "r").texts("flags").items()
    for said in (found, value, Node({"t": text}, "r").text("t")):
        said.encode("utf-8")
        assert "\n" not in said
        assert "\x1b" not in said


def test_a_page_takes_letters_that_no_file_does(tmp_path: Path) -> None:
    odd = "a\ud800\x00\x1b[2J\u202eb"
    results = profile_results(steps=20, rounds=1) | {"description": odd, "loader": odd}
    made = record("profile", results, environment={odd: odd, "memory_bytes": float("inf")}, command=[odd])
    write_page([(odd, made)], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert r"a\ud800\x00\x1b[2J\u202eb" in text
    assert not set(text) & set("\x00\x1b\u202e")
    assert gather([(odd, made), (odd, made)]).records[0][0].isprintable()
