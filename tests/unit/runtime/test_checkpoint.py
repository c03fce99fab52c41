"""Checkpoint files: whole or not at all, nothing but tensors, misfits named."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from model.unet3d import Unet3D
from runtime.checkpoint import load_model, prepare_checkpoint, read_checkpoint, write_checkpoint
from runtime.errors import RunError


def content(filters: tuple[int, ...] = (2, 4)) -> dict[str, Any]:
    return {"last_model_state_dict": Unet3D(1, 3, filters=filters).state_dict(), "seed": 3}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ckpt.pth"
    original = content()
    prepare_checkpoint(path, keep=False)
    write_checkpoint(path, original)
    found = read_checkpoint(path)
    assert found["seed"] == 3
    for name, tensor in original["last_model_state_dict"].items():
        assert torch.equal(found["last_model_state_dict"][name], tensor)
    assert [p.name for p in path.parent.iterdir()] == ["ckpt.pth"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 1")])
@pytest.mark.parametrize("fails", ["os.fsync", "torch.save"])
def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, fails: str
) -> None:
    path = tmp_path / "ckpt.pth"
    write_checkpoint(path, content())
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(fails, full)
    with pytest.raises(RunError, match=r"No space left|disk may be full"):
        write_checkpoint(path, content((3,)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_another_runs_checkpoint_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ckpt.pth"
    prepare_checkpoint(path, keep=False)
    write_checkpoint(path, content())
    prepare_checkpoint(path, keep=True)
    assert [p.name for p in path.parent.iterdir()] == ["ckpt.pth"]
    prepare_checkpoint(path, keep=False)
    (aside,) = path.parent.iterdir()
    assert aside.name != "ckpt.pth"
    assert read_checkpoint(aside)["seed"] == 3


def test_a_path_that_cannot_be_written_is_found_out_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="--save_ckpt_path"):
        prepare_checkpoint(tmp_path / "file" / "ckpt.pth", keep=False)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/nonexistent/bomb",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no such checkpoint"),
        ("empty", "damaged|not a checkpoint"),
        ("text", "not a checkpoint"),
        ("truncated", "damaged"),
        ("malicious", "nothing else is loaded"),
        ("other", "neither"),
        ("newer", "newer"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_sentence(tmp_path: Path, name: str, message: str) -> None:
    path = tmp_path / f"{name}.pth"
    if name == "empty":
        path.write_bytes(b"")
    elif name == "text":
        path.write_text("not a checkpoint at all")
    elif name == "truncated":
        write_checkpoint(path, content())
        path.write_bytes(path.read_bytes()[:-700])
    elif name == "malicious":
        torch.save({"last_model_state_dict": Bomb()}, path, pickle_module=pickle)
    elif name == "other":
        torch.save({"weights": torch.zeros(1)}, path)
    elif name == "newer":
        torch.save({"last_model_state_dict": {}, "format_version": 99}, path)
    with pytest.raises(RunError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misfit_names_the_first_difference_and_the_flag() -> None:
    state = content((2, 4))["last_model_state_dict"]
    with pytest.raises(RunError, match=r"input_block\.conv1\.0\.weight should be \[3.*--filters"):
        load_model(Unet3D(1, 3, filters=(3, 6)), state, Path("x.pth"))
    with pytest.raises(RunError, match="lacks"):
        load_model(Unet3D(1, 3, filters=(2, 4)), state | {"extra": torch.zeros(1)}, Path("x.pth"))


def test_weights_saved_from_inside_ddp_load() -> None:
    source, target = Unet3D(1, 3, filters=(2,)), Unet3D(1, 3, filters=(2,))
    load_model(target, {f"module.{k}": v for k, v in source.state_dict().items()}, Path("x.pth"))
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
