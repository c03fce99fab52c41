"""``python -m benchmark step`` as a user meets it."""

import json
from pathlib import Path

import jsonschema
import pytest
import torch

from benchmark import record as record_module
from benchmark.__main__ import main
from benchmark.environment import ROOT
from benchmark.peers.mlperf_reference import find_reference
from benchmark.peers.mlperf_step import ReferenceStep
from benchmark.step.contenders import CONTENDERS, Task
from benchmark.step.turns import Course, measure
from model.losses import DiceCELoss
from model.unet3d import MLPERF_FILTERS, Unet3D
from pipelines.errors import DataError

QUICK = ["--filters", "4", "8", "--patch", "16", "--fake_patch", "16", "--rounds", "1", "--steps", "1"]


@pytest.fixture(scope="module")
def checkout() -> Path:
    folder = find_reference(ROOT / ".work" / "reference")
    if folder is None:
        pytest.skip("no checkout of the reference at .work/reference")
    return folder


def test_tables_claims_and_a_record(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*QUICK, "--warmup", "2", "--batch_size", "2", "--out", str(tmp_path)]
    assert main(["step", "--reference_dir", str(checkout), *flags]) == 0
    text = capsys.readouterr().out
    assert "losses of the first steps agree" in text
    assert "cannot tell ours, batch 2: at least the reference's images/s" in text
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    schema = Path(record_module.__file__).with_name("record_schema.json")
    validator = jsonschema.Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
    validator.validate(record)
    (batch,) = record["results"]["time"]["batches"]
    assert tuple(batch["contenders"]) == CONTENDERS
    assert len(batch["contenders"]["ours"]["losses"][0]) == 3
    assert len(batch["contenders"]["ours"]["seconds"][0]) == 1
    assert len(record["results"]["claims"]) == 2 * 3 + 3 * (2 + 4) + 3
    del record["results"]["counts"]["float32"]["ours"]["launches"]
    assert not validator.is_valid(record)


def test_counts_alone(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "--reference_dir", str(checkout), *QUICK, "--what", "counts"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("launches, float32")
    assert "saved for backward" not in text
    assert "images/s" not in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--reference_dir", "/nonexistent"], "expected a checkout of mlcommons/training"),
        (["--patch", "40"], "--patch: the 5 levels of --filters halve it as often"),
        (["--fake_patch", "32"], "--fake_patch: the 5 levels of --filters halve it as often"),
        (["--filters", "4", "8", "--patch", "4"], "expected a multiple of 4 from 8 on, found 4"),
        (["--what", "speed"], "invalid choice: 'speed'"),
        (["--only", "theirs"], "invalid choice: 'theirs'"),
        (["--rounds", "0"], "0 is not at least 1"),
    ],
)
def test_a_wrong_flag_is_one_sentence(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data_loading").mkdir()
    (tmp_path / "data_loading" / "pytorch_loader.py").touch()
    with pytest.raises(SystemExit) as caught:
        main(["step", "--reference_dir", str(tmp_path), *flags])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_a_checkout_without_a_network_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data_loading").mkdir()
    (tmp_path / "data_loading" / "pytorch_loader.py").touch()
    assert main(["step", "--reference_dir", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "layers.py: No such file or directory" in message
    assert message.count("\n") == 1


def test_a_contender_that_ends_says_why(tmp_path: Path) -> None:
    task = Task(reference_dir=tmp_path, filters=(4, 8), patch=16, batch_size=1, learning_rate=0.1, seed=0)
    with pytest.raises(DataError, match=r"^reference ended with status 1: FileNotFoundError.*layers\.py"):
        measure(["reference"], task, Course(rounds=1, warmup=1, steps=1), print)


def test_tasks_travel_as_text_and_make_the_same_batches(tmp_path: Path) -> None:
    task = Task(reference_dir=tmp_path, filters=(4, 8), patch=12, batch_size=2, learning_rate=0.1, seed=3)
    other = Task.from_json(task.to_json())
    assert other == task
    batches = task.batches()
    assert len({float(image.sum()) for image, _ in batches}) == len(batches) > 1
    for (image, label), (same_image, same_label) in zip(batches, other.batches(), strict=True):
        assert torch.equal(image, same_image)
        assert torch.equal(label, same_label)
        assert image.shape == label.shape == (2, 1, 12, 12, 12)
        assert set(label.unique().tolist()) <= {0, 1, 2}
        assert (label[:, :, :8, :8, :8] == label[:, :, :1, :1, :1]).all()


def test_the_reference_is_loaded_beside_ours(checkout: Path) -> None:
    import model.layers
    import runtime.logging

    step = ReferenceStep(checkout)
    assert model.layers.__name__ == "model.layers"
    assert hasattr(runtime.logging, "RunLog")
    assert sum(p.numel() for p in step.network(MLPERF_FILTERS).parameters()) == 31_190_243
    theirs, ours = step.network((4, 8)), Unet3D(1, 3, filters=(4, 8))
    assert list(theirs.state_dict()) == list(ours.state_dict())
    theirs.load_state_dict(ours.state_dict())
    image, label = torch.randn(1, 1, 16, 16, 16), torch.randint(0, 3, (1, 1, 16, 16, 16))
    torch.testing.assert_close(
        step.loss()(theirs(image), label), DiceCELoss()(ours(image), label), rtol=1e-6, atol=0
    )
