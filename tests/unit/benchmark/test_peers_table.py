"""The table of a comparison, and the ratios in it."""

import pytest

from benchmark.peers.command import results
from benchmark.peers.comparison import ColdRead, Outcome
from benchmark.peers.table import best_of_ours, ratios, table

BOUNDS = {"patch": 10.5e6, "pages": 29e6, "case": 180e6}


def cold(megabytes: float) -> ColdRead:
    return ColdRead(images=12, bytes_per_image=megabytes * 1e6, asked_bytes_per_image=None)


@pytest.fixture
def outcomes() -> dict[str, Outcome]:
    return {
        "pytorch": Outcome(
            images_per_s=[300.0, 400.0, 350.0],
            peak_pss=100 << 20,
            peak_kept=50 << 20,
            cold={0.0: cold(29), 0.4: cold(33)},
        ),
        "dali": Outcome(images_per_s=[500.0, 100.0, 200.0], cold={0.0: cold(29), 0.4: cold(33)}),
        "reference": Outcome(images_per_s=[10.0, 8.0, 5.0], cold={0.4: cold(180)}),
        "monai": Outcome(missing="not installed: pip install x"),
        "monai-cached": Outcome(images_per_s=[50.0, 50.0, 70.0], cold={0.4: cold(180)}),
        "nnunet": Outcome(failure="ValueError: a | b"),
    }


def test_ratios_of_medians_and_of_rounds() -> None:
    assert ratios([300.0, 400.0, 350.0], [10.0, 8.0, 5.0]) == (350 / 8, [30, 50, 70])


def test_one_line_for_each(outcomes: dict[str, Outcome]) -> None:
    lines = {line.split()[0]: line for line in table(outcomes, BOUNDS).split("\n\n")[0].splitlines()}
    assert list(lines) == ["loader", *outcomes]
    pytorch, cells = lines["pytorch"], lines["pytorch"].split()
    assert cells[1:6] == ["350.0", "[300.0,", "400.0]", "43.75", "[30.00,"]
    assert "29.0 / 33.0" in pytorch
    assert cells[-2:] == ["100", "50"]
    assert lines["reference"].split()[-4:] == ["43.75x", "180.0", "0", "0"]
    assert "180.0*" in lines["monai-cached"]
    assert lines["monai"].split(maxsplit=1)[1] == "not installed: pip install x"
    assert lines["nnunet"].split(maxsplit=1)[1] == "failed: ValueError: a | b"
    # Right-aligned: columns end where their heads do.
    end = lines["loader"].index("images/s") + len("images/s")
    assert all(lines[name][:end].endswith("0") for name in ("pytorch", "dali", "reference", "monai-cached"))


def test_the_legend_explains_what_is_there(outcomes: dict[str, Outcome]) -> None:
    legend = table(outcomes, BOUNDS).split("\n\n")[1]
    assert "A patch is 10.5 MB, the pages that hold it 29.0 MB, a whole case 180.0 MB" in legend
    assert "pytorch, the fastest of ours" in legend
    assert "without / with" in legend
    assert "*: in the first pass" in legend
    del outcomes["monai-cached"]
    outcomes["dali"].notes.append("cold reads: no")
    outcomes["dali"].cached_part = 0.5
    legend = table(outcomes, BOUNDS).split("\n\n")[1]
    assert "*" not in legend
    assert "dali: cold reads: no" in legend
    assert legend.endswith("dali: only 50% of its files stayed in the page cache before a round")


def test_without_the_reference_or_ours_there_are_no_ratios(outcomes: dict[str, Outcome]) -> None:
    outcomes["reference"] = Outcome(missing="needs --reference_dir")
    lines = table({name: outcomes[name] for name in ("reference", "monai-cached")}, BOUNDS).splitlines()
    assert lines[2].split()[4:7] == ["-", "-", "-"]


def test_the_best_of_ours_has_the_highest_median(outcomes: dict[str, Outcome]) -> None:
    assert best_of_ours(outcomes) == "pytorch"
    outcomes["pytorch"].failure = "it"
    assert best_of_ours(outcomes) == "dali"
    assert best_of_ours({"reference": outcomes["reference"]}) is None


def test_a_record_has_the_ratios(outcomes: dict[str, Outcome]) -> None:
    found = results(outcomes, BOUNDS, 13)
    assert found["best_of_ours"] == "pytorch"
    assert found["contenders"]["pytorch"]["ratio_to_reference"]["of_rounds"] == [30, 50, 70]
    assert found["contenders"]["monai-cached"]["ratio_to_pytorch"]["of_medians"] == 50 / 350
    assert found["contenders"]["nnunet"]["failure"] == "ValueError: a | b"
    assert "ratio_to_reference" not in found["contenders"]["monai"]
