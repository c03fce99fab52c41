"""The colours of the page: all of them from its style sheet, and legible."""

import re
from pathlib import Path

import pytest

from benchmark.page import document
from benchmark.page.figures import breakdown, ready, roofline, trace, waits, workers
from benchmark.page.gather import gather
from benchmark.page.svg import figure
from tests.unit.benchmark.page_records import profile

CSS = (Path(document.__file__).parent / "page.css").read_text()


def test_every_colour_is_one_of_the_theme() -> None:
    profiles = gather([("a", profile(steps=30))]).profiles
    figures = "".join(
        figure(module.plot(profiles)) for module in (breakdown, ready, roofline, trace, waits, workers)
    )
    assert "var(--line-1)" in figures
    assert not re.findall(r"#[0-9a-f]{6}\b", figures)
    used = set(re.findall(r"var\((--[\w-]+)\)", figures + CSS))
    assert used <= set(re.findall(r"(--[\w-]+):", CSS))


def _luminance(hexadecimal: str) -> float:
    """As WCAG 2 defines it."""
    parts = [int(hexadecimal[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme]))
    assert _contrast(colours["ink"], colours["surface"]) > 7
    assert _contrast(colours["ink"], colours["notice"]) > 7
    for text in ("quiet", "alarm"):
        assert _contrast(colours[text], colours["surface"]) > 4.5
    for name in [name for name in colours if name.startswith("line-")]:
        assert _contrast(colours[name], colours["surface"]) > 4.5
        assert _contrast(colours[name], colours["shade"]) > 3
