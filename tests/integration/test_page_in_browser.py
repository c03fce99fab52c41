"""The page as a browser shows it: nothing goes wrong, nothing is cut off or covered, nothing is loaded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.page.command import write_page
from benchmark.page.gather import find
from tests.integration.browser import NAMES, Page, executable, opened
from tests.unit.benchmark.page_records import nulled, profile, profile_results, record, write_sweep

PAGES = ("profile", "sweep", "several", "nulls")
PHONE, DESKTOP = 390, 1280
FIGURES = ["breakdown", "waits", "workers", "roofline", "queue", "trace"]

LOOK = """
[...document.querySelectorAll('figure')].map(figure => {
  const shown = [...figure.querySelectorAll('svg')].filter(svg => getComputedStyle(svg).display !== 'none');
  const texts = shown.flatMap(svg => [...svg.querySelectorAll('text')]);
  const box = element => { const r = element.getBoundingClientRect();
                           return [r.left, r.top, r.right, r.bottom]; };
  const words = (svg, name) =>
    [...svg.querySelectorAll(`[id*="-${name}-label-"] text`)].map(t => t.textContent);
  return {
    id: figure.id,
    title: figure.querySelector('h2')?.textContent ?? '',
    caption: figure.querySelector('figcaption')?.textContent ?? '',
    missing: figure.querySelector('.missing')?.textContent ?? '',
    svgs: shown.map(svg => ({box: box(svg), role: svg.getAttribute('role'),
                             says: svg.getAttribute('aria-label'),
                             title: svg.querySelector('title')?.textContent ?? '',
                             x: words(svg, 'x'), y: words(svg, 'y')})),
    texts: texts.map(t => ({text: t.textContent, box: box(t), fill: getComputedStyle(t).fill,
                            upright: !/rotate\\(-90/.test(t.getAttribute('transform') ?? ''),
                            size: parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a || 0})),
  };
})
"""
"""What there is to see in each figure, in pixels of the window."""


RIGHT_EDGE = """
Math.max(...[...document.querySelectorAll('main *:not(svg *)')]
  .filter(e => !e.closest('.box')).map(e => e.getBoundingClientRect().right))
"""
"""Of everything but what scrolls in a box."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    write_page([("a", profile(steps=60))], folder / "profile.html")
    write_page(find([write_sweep(folder / "swept", steps=60)]), folder / "sweep.html")
    several = [
        ("one", profile(ranks=4, steps=40)),
        ("two", profile(loader="dali", patch=64, rounds=9, steps=40)),
    ]
    write_page(several, folder / "several.html")
    write_page([("a", record("profile", nulled(profile_results(steps=40))))], folder / "nulls.html")
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    program = executable()
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is installed")
    with opened(program, tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Page:
    """The browser, with nothing to complain of yet."""
    browser.complaints.clear()
    browser.requests.clear()
    return browser


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_every_figure_is_whole(page: Page, folder: Path, name: str, width: int) -> None:
    page.show(folder / f"{name}.html", width)
    figures = page.evaluate(LOOK)
    assert [figure["id"] for figure in figures] == FIGURES
    for figure in figures:
        assert figure["title"]
        if figure["missing"]:
            assert name == "nulls"
            continue
        assert len(figure["caption"]) > 50
        (svg,) = figure["svgs"]  # the wide one, or the narrow one
        assert svg["role"] == "img"
        assert svg["says"]
        assert svg["title"] == figure["title"]
        check_axes(figure["id"], svg)
        check_texts(figure)
    assert not page.complaints
    assert page.requests == [(folder / f"{name}.html").as_uri()]


def check_axes(figure: str, svg: dict[str, Any]) -> None:
    """Both axes are named, with a unit unless they list names."""
    assert svg["x"]
    assert svg["y"]
    for label in svg["x"] + svg["y"]:
        assert label.endswith(")") or (figure, label) == ("breakdown", "measurement")


def check_texts(figure: dict[str, Any]) -> None:
    """No text is cut off, too small to read, or covers another."""
    left, top, right, bottom = figure["svgs"][0]["box"]
    for one in figure["texts"]:
        x0, y0, x1, y1 = one["box"]
        assert left - 1 <= x0, one
        assert x1 <= right + 1, one
        assert top - 1 <= y0, one
        assert y1 <= bottom + 1, one
        # An upright text's scale is in the first place of its matrix; what is turned is as large.
        assert not one["upright"] or one["size"] > 11.5, one
    for index, one in enumerate(figure["texts"]):
        for other in figure["texts"][:index]:
            assert covered(one["box"], other["box"]) < 0.25, (one["text"], other["text"])


def covered(one: list[float], other: list[float]) -> float:
    """The part of the smaller box that lies in the other."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return max(0.0, wide) * max(0.0, high) / smaller


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, PHONE, 640, 700, 960, DESKTOP])
def test_the_page_never_scrolls_sideways(page: Page, folder: Path, name: str, width: int) -> None:
    page.show(folder / f"{name}.html", width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(RIGHT_EDGE) <= width
    boxes = page.evaluate("[...document.querySelectorAll('.box')].map(b => [b.scrollWidth, b.clientWidth])")
    assert boxes
    if width == PHONE:
        assert any(inside > outside for inside, outside in boxes)  # tables scroll in their own boxes


def test_dark_is_dark_and_print_is_light(page: Page, folder: Path) -> None:
    surface = "getComputedStyle(document.body).backgroundColor"
    shown = "[...document.querySelectorAll('#waits svg')].map(s => getComputedStyle(s).display)"
    for scheme, media, expected in (
        ("light", "screen", "rgb(255, 255, 255)"),
        ("dark", "screen", "rgb(20, 24, 29)"),
        ("dark", "print", "rgb(255, 255, 255)"),
    ):
        page.show(folder / "sweep.html", PHONE, scheme, media)
        assert page.evaluate(surface) == expected
        assert page.evaluate(shown) == (["block", "none"] if media == "print" else ["none", "block"])
        fills = {text["fill"] for figure in page.evaluate(LOOK) for text in figure["texts"]}
        assert fills == {page.evaluate("getComputedStyle(document.body).color")}
    assert page.pdf().startswith(b"%PDF")
    assert not page.complaints


def evil(where: str) -> str:
    """Markup that runs wherever it is not escaped: in an element, an attribute, a script or a comment."""
    run = "window.ran = 1"
    return (
        f"{where}\"'><img src=x onerror='{run}'></script></svg>--><script>{run}</script><svg onload='{run}'>"
    )


def test_what_a_record_says_is_not_run(page: Page, tmp_path: Path) -> None:
    results = profile_results(steps=40)
    results |= {name: evil(name) for name in ("description", "loader", "step", "device")}
    results["dataset"] = {"case": evil("case_00003")}
    results["findings"]["verdict"] |= {name: evil(name) for name in ("name", "sentence", "advice")}
    environment = {"cpu": evil("machine"), evil("key"): "x", "gpus": [{"name": evil("gpu")}]}
    config = {"notes": evil("note"), "loader": {"data_dir": evil("data_dir")}}
    made = record("profile", results, command=[evil("command")], environment=environment, config=config)
    write_page([(evil("label"), made)], tmp_path / "page.html")
    page.show(tmp_path / "page.html", DESKTOP)
    places = (
        "description", "loader", "step", "device", "case_00003", "sentence", "advice", "machine", "key",
        "gpu", "note", "data_dir",
    )  # fmt: skip
    check_literal(page, [evil(place)[1:] for place in places])  # a sentence begins with a capital
    # A shell quotes the apostrophes of a command once more.
    assert 'command"' in page.evaluate("document.querySelector('main').textContent")


def test_what_a_sweep_says_is_not_run(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror='window.ran = 1'>"
    path = write_sweep(folder, steps=20)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["results"]["workers"] = [evil("remark")]
    for point in content["results"]["points"]:
        point["flags"]["loader"] += evil("flag")
        point["reason"] = evil("reason") if point["status"] == "failed" else ""
    path.write_text(json.dumps(content), encoding="utf-8")
    write_page(find([folder, folder]), tmp_path / "page.html")
    page.show(tmp_path / "page.html", PHONE)
    check_literal(page, [folder.name, evil("remark")[1:], evil("flag"), evil("reason")])
    drawn = "[...document.querySelectorAll('svg text')].some(t => t.textContent.includes('<img'))"
    assert page.evaluate(drawn)


def check_literal(page: Page, texts: list[str]) -> None:
    """All of ``texts`` are there to read, and nothing of them became an element or ran."""
    assert page.evaluate("document.documentElement.outerHTML.length") > 1000
    shown = " ".join(page.evaluate("document.querySelector('main').textContent").split())
    for text in texts:
        assert text in shown
    alien = "document.querySelectorAll('img, script, [onload], [onerror], iframe, object, base').length"
    assert page.evaluate(alien) == 0
    assert page.evaluate("window.ran === undefined && document.images.length === 0")
    assert len(page.requests) == 1
    assert not page.complaints


@pytest.mark.parametrize(
    "fault",
    [
        "<script>throw new Error('broken')</script>",
        "<script>console.error('broken')</script>",
        "<img src='missing.png'>",
        "<link rel='stylesheet' href='missing.css'>",
    ],
)
@pytest.mark.parametrize("guarded", [True, False], ids=["with our policy", "without it"])
def test_these_tests_notice_a_fault(
    page: Page, folder: Path, tmp_path: Path, fault: str, guarded: bool
) -> None:
    text = (folder / "profile.html").read_text(encoding="utf-8")
    text = text.replace("</main>", f"{fault}</main>")
    if not guarded:
        text = text.replace("Content-Security-Policy", "X-Nothing")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    page.show(tmp_path / "page.html", DESKTOP)
    assert page.complaints


def test_these_tests_notice_what_is_covered_or_cut_off(page: Page, folder: Path, tmp_path: Path) -> None:
    text = (folder / "profile.html").read_text(encoding="utf-8")
    for style in ("text { font-size: 40px !important }", "svg { font-size-adjust: 2 }"):
        (tmp_path / "page.html").write_text(text.replace("</style>", f"{style}</style>"), encoding="utf-8")
        page.show(tmp_path / "page.html", DESKTOP)
        with pytest.raises(AssertionError):
            check_texts(page.evaluate(LOOK)[1])
