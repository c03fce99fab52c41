import json
from pathlib import Path

import pytest

from benchmark.__main__ import main
from benchmark.record import read_record
from tests.integration.conftest import succeed

TRAINING = (
    "--filters", "4", "8", "--input_shape", "16", "16", "16", "--val_input_shape", "32", "32", "32",
    "--warmup_steps", "1", "--benchmark_steps", "3", "--num_workers", "1",
)  # fmt: skip


def test_each_front_is_measured_or_says_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, path = tmp_path / "data", tmp_path / "record.json"
    succeed("-m", "preprocess.phantom", "--preprocessed", "--shape", 32, 32, 32, "--out", data, "--cases", 6)
    flags = ["--only", "dali-device,dali-gds,pytorch", "--seconds", "1", "--json", str(path)]
    assert main(["fronts", *flags, "--", "--data_dir", str(data), *TRAINING]) == 0
    results = read_record(path).results
    assert list(results) == ["dali-device", "dali-gds", "pytorch"]
    for name in ("dali-device", "pytorch"):
        assert results[name]["alone_images_per_s"] > results[name]["with_network_images_per_s"] > 0
        assert results[name]["description"].startswith(name.split("-")[0])
        assert "gpu_ms_per_image" not in results[name], "a number that was not measured"
    assert "and so a CUDA device" in results["dali-gds"]["refused"]
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [next(iter(json.loads(line))) for line in printed] == list(results)


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (["--only", "daly", "--", "--data_dir", "d"], 2),
        (["--", "--data_dir", "d", "--batch", "0"], 2),
        (["--only", "dali", "--", "--data_dir", "/nonexistent"], 1),
    ],
)
def test_what_cannot_be_measured_fails(flags: list[str], status: int) -> None:
    try:
        found: int | str | None = main(["fronts", *flags])
    except SystemExit as error:
        found = error.code
    assert found == status
