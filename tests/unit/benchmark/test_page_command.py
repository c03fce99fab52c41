"""``python -m benchmark report``: where the page is written, and what happens when it cannot be."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.page import document
from benchmark.page.command import add_arguments, run, write_page
from benchmark.page.markup import element
from benchmark.record import write_record
from pipelines.errors import DataError
from tests.unit.benchmark.page_records import profile, profile_results, record

ROOT = Path(__file__).parents[3]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages with titles in the place of figures, which take two seconds."""
    monkeypatch.setattr(document, "figure", lambda plot: element("h2", plot.title))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two points, and no sweep."""
    for name in ("point-001.json", "point-002.json"):
        write_record(profile(steps=30, rounds=1), tmp_path / "points" / name)
    return tmp_path / "points"


def flags(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


@pytest.mark.usefixtures("undrawn")
def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_page([("a", profile(steps=30, rounds=1))], tmp_path / "page.html")
    before = (tmp_path / "page.html").read_bytes()
    broken = profile_results(steps=30, rounds=1)
    broken["findings"]["noise"] = {"grade": 3}
    with pytest.raises(DataError, match=r"findings\.noise\.grade is 3, expected a string"):
        write_page([("a", record("profile", broken))], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.usefixtures("undrawn")
def test_the_command_writes_beside_the_first_record(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(flags(folder, folder / "point-001.json")) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    assert "#3 point-001" in (folder / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_out_and_open(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    out = tmp_path / "new" / "p q.html"
    assert run(flags(folder / "point-001.json", "--out", out, "--open")) == 0
    assert out.exists()
    assert opened == [out.as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    with pytest.raises(DataError, match="--open: found no browser, open .* yourself"):
        run(flags(folder / "point-001.json", "--out", out, "--open"))
    with pytest.raises(DataError, match="is a folder, expected the name of a file"):
        run(flags(folder / "point-001.json", "--out", tmp_path))


def test_without_matplotlib_one_sentence(tmp_path: Path) -> None:
    write_record(profile(steps=30, rounds=1), tmp_path / "record.json")
    script = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from pathlib import Path\n"
        "from benchmark.page.command import write_page\n"
        "from benchmark.record import read_record\n"
        "from pipelines.errors import DataError\n"
        "path = Path(sys.argv[1])\n"
        "try: write_page([(path, read_record(path))], path.with_name('p.html'))\n"
        "except DataError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "record.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "p.html was not written: its figures need matplotlib, install it" in done.stdout
    assert not (tmp_path / "p.html").exists()
