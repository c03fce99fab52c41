"""The page as a whole, and the command that writes it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmark.page import document
from benchmark.page.command import write_page
from benchmark.page.markup import Markup, element
from benchmark.page.svg import Plot
from benchmark.record import Record, read_record
from tests.unit.benchmark.page_records import (
    H200,
    nulled,
    profile,
    profile_results,
    record,
    write_sweep,
)

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;$x$"


class Elements(HTMLParser):
    """Every element of a page with its attributes, and its text by the element that it is in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.found if "id" in attributes]


def written(path: Path, *records: tuple[Path | str, Record]) -> str:
    write_page(records, path / "page.html")
    return (path / "page.html").read_text(encoding="utf-8")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages whose figures are their titles, and why there is none; a dozen drawings take two seconds."""

    def stand_in(plot: Plot) -> Markup:
        missing = "" if plot.draw else plot.missing
        return element("figure", element("h2", plot.title), element("p", missing), id=plot.key)

    monkeypatch.setattr(document, "figure", stand_in)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with its points."""
    return write_sweep(tmp_path_factory.mktemp("swept"), steps=30).parent


@pytest.fixture(scope="module")
def swept(folder: Path) -> str:
    return written(folder, (folder / "record.json", read_record(folder / "record.json")))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("alone"), ("a", profile(steps=30)))


def test_the_verdict_comes_first_then_the_advice_the_rate_and_the_figures(alone: str) -> None:
    order = [
        "Prep-bound: ", "What to do: ", "images/s", "Where the time of a step", "How long the step waits",
        "Throughput against workers", "Loader against compute", "The queue between", "Was it steady?",
        ">Rates<", ">All metrics<", ">What ran<", ">Machine,", ">Method<", ">Measure it again<",
    ]  # fmt: skip
    body = alone[alone.index("<body>") :]
    places = [body.index(text) for text in order]
    assert places == sorted(places)
    assert alone.count("<figure") == alone.count("<figcaption") == 6
    assert re.search(r"<title>voxelrate: prep-bound, [\d.]+ images/s</title>", alone)
    assert "python -m benchmark profile --data_dir &#x27;my data&#x27;" in alone


def test_of_a_sweep_the_fastest_speaks_and_all_points_are_listed(swept: str) -> None:
    assert re.search(r">Of #\d+ loader=\w+, num_workers=[468], the fastest of 9 that were measured", swept)
    assert "All: The training step was emulated: nothing was computed, each step only took 26.3 ms" in swept
    assert "6 workers remove the stall" in swept
    table = swept[swept.index(">All points<") :]
    assert [int(n) for n in re.findall(r'scope="row">#(\d+) loader', table)] == list(range(1, 13))
    assert '<td class="reason" colspan="8">failed: out of memory: ended by signal 9</td>' in table
    assert '<td class="reason" colspan="8">missing</td>' in table
    assert "4 of 9, from the fastest to the slowest, are shown." in swept


@pytest.mark.parametrize("name", ["alone", "swept"])
def test_it_needs_nothing_else(name: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(name)
    elements = Elements(text)
    assert not [tag for tag, _ in elements.found if tag in ("script", "iframe", "object", "base", "form")]
    links = [
        value
        for _, attributes in elements.found
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "action")
    ]
    assert [link for link in links if not link.startswith("#")] == ["data:,"]
    assert not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in text
    assert len(text) < 2_000_000


@pytest.mark.parametrize("name", ["alone", "swept"])
def test_ids_are_unique_and_lead_somewhere(name: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(name)
    ids = Elements(text).ids
    assert len(ids) == len(set(ids)) > 100
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)


def poisoned(value: Any) -> Any:
    """``value`` with every string and every key of a free object replaced or marked by ``EVIL``."""
    if isinstance(value, dict):
        return {key: poisoned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner) for inner in value]
    return EVIL if isinstance(value, str) else value


@pytest.mark.usefixtures("undrawn")
def test_whatever_a_record_says_is_text(tmp_path: Path) -> None:
    results = profile_results(steps=30, rounds=1, ranks=4, emulated=dict(H200))
    arms = [phase["arm"] for phase in results["phases"]]
    results = poisoned(results)
    for phase, arm in zip(results["phases"], arms, strict=True):
        phase["arm"] = arm
    results["findings"]["rates"][EVIL] = results["findings"]["rates"]["both"]
    results |= {"dataset": {EVIL: EVIL}, "pipeline": [EVIL]}
    evil = record(
        "profile", results, command=[EVIL], environment={EVIL: {EVIL: [EVIL]}}, date=EVIL, config={EVIL: EVIL}
    )
    for found in (
        written(tmp_path, (EVIL, evil)),
        written(tmp_path, (EVIL, evil), ("b", evil)),
        written(tmp_path, ("s", evil_sweep(results))),
    ):
        elements = Elements(found)
        assert not [tag for tag, _ in elements.found if tag in ("script", "img")]
        assert not [key for _, attributes in elements.found for key in attributes if key.startswith("on")]
        assert EVIL in elements.text


def evil_sweep(results: dict[str, Any]) -> Record:
    good = {"flags": {EVIL: EVIL, "num_workers": "2"}, "status": EVIL, "reason": EVIL, "record": None}
    points = [good | {"results": results}, good | {"results": None}]
    return record("sweep", {"axes": {}, "complete": True, "workers": [EVIL], "points": points})


@pytest.mark.usefixtures("undrawn")
def test_nothing_known_but_the_rates(tmp_path: Path) -> None:
    found = written(tmp_path, ("a", record("profile", nulled(profile_results(steps=30)))))
    assert "no interval is known" in found
    assert "Not steady: loader alone" in found
    assert found.count("No wait is known") == found.count("No queue is known") == 1
    assert "no model of more workers" in found
    assert "None" not in Elements(found).text
    assert "nan" not in Elements(found).text


@pytest.mark.usefixtures("undrawn")
def test_ranks_have_a_table(tmp_path: Path) -> None:
    found = written(tmp_path, ("a", profile(steps=30, rounds=1, ranks=4)))
    table = found[found.index(">Ranks of ") :]
    assert re.findall(r"rank (\d)</th>.*?>(yes|no)</td></tr>", table) == [
        ("0", "no"), ("1", "no"), ("2", "no"), ("3", "yes")
    ]  # fmt: skip


def test_a_profile_that_was_interrupted(tmp_path: Path) -> None:
    results = profile_results(steps=30, rounds=1) | {"findings": None}
    found = written(tmp_path, ("a", record("profile", results)))
    assert "Nothing here was measured to its end." in found
    assert "interrupted: loader, training step and both together were not all measured" in found
    assert found.count('class="missing"') == 6
