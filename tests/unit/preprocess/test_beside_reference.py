"""The side-by-side measurement, with stand-ins for the reference that call our own conversion."""

import json
from pathlib import Path

import pytest
from raw_cases import write_case

from benchmark.peers.mlperf_preprocess import main

STAND_IN = """
from pathlib import Path
from preprocess.task import CaseTask, work

class Preprocessor:
    def __init__(self, args):
        self.args = args

    def preprocess_dataset(self):
        out = Path(self.args.results_dir)
        out.mkdir(exist_ok=True)
        for case in sorted(Path(self.args.data_dir).iterdir()):
            work(CaseTask(case, out, None))
        {extra}
"""


@pytest.mark.parametrize(
    ("extra", "status"), [("", 0), ("next(out.glob('*_x.npy')).write_bytes(b'other')", 1), ("1 / 0", 2)]
)
def test_measures_both_and_compares_their_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: str, status: int
) -> None:
    write_case(tmp_path / "raw", 0)
    reference = tmp_path / "reference"
    reference.mkdir()
    (reference / "preprocess_dataset.py").write_text(STAND_IN.format(extra=extra))
    flags = ["--reference", reference, "--data_dir", tmp_path / "raw", "--rounds", "1", "--workers", "1"]
    json_file = tmp_path / "result.json"
    code = main([str(flag) for flag in [*flags, "--scratch", tmp_path, "--json", json_file]])
    printed = capsys.readouterr()
    assert code == status
    if status == 2:
        assert "reference failed with status 1" in printed.err
        assert "ZeroDivisionError" in printed.err
        return
    record = json.loads(printed.out)
    assert record == json.loads(json_file.read_text())
    result = record["results"]
    assert result["files_equal"] is (status == 0)
    for side in ("reference", "ours_1"):
        medians = result["medians"][side]
        assert medians["cases_per_minute"] == pytest.approx(60 / medians["seconds"])
        assert 50 < medians["peak_pss_mib"] <= medians["peak_rss_mib"]
    ours, theirs = result["medians"]["ours_1"], result["medians"]["reference"]
    assert result["ratios"]["ours_1"]["peak_pss_mib"] == pytest.approx(
        ours["peak_pss_mib"] / theirs["peak_pss_mib"]
    )


def test_no_reference_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--reference", str(tmp_path), "--data_dir", str(tmp_path)]) == 2
    assert "give the reference's unet3d/pytorch folder" in capsys.readouterr().err
