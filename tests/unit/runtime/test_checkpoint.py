"""Checkpoint files: whole or not at all, nothing but tensors, misfits named."""

import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.unet3d import Unet3D
from runtime.checkpoint import DamagedError, load_model, read_checkpoint, write_checkpoint
from runtime.errors import RunError


def content(filters: tuple[int, ...] = (2, 4)) -> dict[str, Any]:
    return {"last_model_state_dict": Unet3D(1, 3, filters=filters).state_dict(), "seed": 3}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pth"
    original = content()
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


class Bomb:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


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
        torch.save({"last_model_state_dict": Bomb(tmp_path / "bomb")}, path, pickle_module=pickle)
    elif name == "other":
        torch.save({"weights": torch.zeros(1)}, path)
    elif name == "newer":
        torch.save({"last_model_state_dict": {}, "format_version": 99}, path)
    with pytest.raises(RunError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bomb").exists()


def test_the_bomb_would_go_off(tmp_path: Path) -> None:
    torch.save(Bomb(tmp_path / "bomb"), tmp_path / "bomb.pth", pickle_module=pickle)
    torch.load(tmp_path / "bomb.pth", weights_only=False)
    assert (tmp_path / "bomb").exists()


def flattened(value: Any) -> Any:
    """To compare with ==."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return {k: flattened(v) for k, v in value.items()} if isinstance(value, dict) else value


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60)
def test_a_flipped_bit_is_found_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.pth"
    write_checkpoint(path, content((2,)))
    expected = flattened(read_checkpoint(path))
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 1 << bit
    path.write_bytes(data)
    with suppress(RunError):
        assert flattened(read_checkpoint(path)) == expected


@given(length=st.floats(0, 1, exclude_max=True))
@settings(max_examples=20)
def test_a_torn_file_is_damaged(tmp_path_factory: pytest.TempPathFactory, length: float) -> None:
    path = tmp_path_factory.getbasetemp() / "torn.pth"
    write_checkpoint(path, content((2,)))
    data = path.read_bytes()
    path.write_bytes(data[: int(length * len(data))])
    with pytest.raises(DamagedError):
        read_checkpoint(path)


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
