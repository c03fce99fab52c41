"""The newest checkpoint and those before it: kept, found, passed over, set aside."""

from pathlib import Path

import pytest
import torch

from runtime.checkpoint import temporary_name, write_checkpoint
from runtime.checkpoint_writer import CheckpointWriter
from runtime.errors import RunError
from runtime.generations import existing, newest_whole, prepare


def content(seed: int, weight: float = 1.0) -> dict[str, object]:
    return {"last_model_state_dict": {"weight": torch.tensor([weight])}, "seed": seed}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_four(path: Path, keep: int) -> None:
    writer = CheckpointWriter(path, keep, print)
    for seed in range(4):
        writer.write(content(seed))
    writer.finish()
    writer.close()


def seeds(path: Path) -> list[int]:
    return [torch.load(found, weights_only=True)["seed"] for found in existing(path)]


@pytest.mark.parametrize(("keep", "kept"), [(1, [3]), (2, [3, 2]), (3, [3, 2, 1])])
def test_the_last_ones_are_kept(tmp_path: Path, keep: int, kept: list[int]) -> None:
    write_four(tmp_path / "c.pth", keep)
    assert seeds(tmp_path / "c.pth") == kept
    assert len(names(tmp_path)) == keep


def test_damaged_ones_are_passed_over_and_said(tmp_path: Path) -> None:
    path, said = tmp_path / "c.pth", []
    write_four(path, 3)
    path.write_bytes(path.read_bytes()[:-100])
    (tmp_path / "c.1.pth").write_bytes(b"\0" * 4000)
    found = newest_whole(path, said.append)
    assert found is not None
    assert (found[0].name, found[1]["seed"]) == ("c.2.pth", 1)
    assert [
        line.startswith(f"warning: {tmp_path / name}: ")
        for line, name in zip(said, ("c.pth", "c.1.pth"), strict=True)
    ]


def test_a_run_killed_between_two_renames_has_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    write_four(path, 2)
    path.unlink()
    found = newest_whole(path, print)
    assert found is not None
    assert found[1]["seed"] == 2


def test_none_and_nothing_whole_are_told_apart(tmp_path: Path) -> None:
    assert newest_whole(tmp_path / "nowhere" / "c.pth", print) is None
    (tmp_path / "c.pth").write_bytes(b"")
    with pytest.raises(RunError, match="c.pth: the checkpoint is damaged"):
        newest_whole(tmp_path / "c.pth", print)


def test_files_of_other_names_are_no_generations(tmp_path: Path) -> None:
    for name in ("c.pth", "c.7.pth", "c.damaged.pth", "c.20260101-000000-000000.pth", "d.1.pth", "c.1.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in existing(tmp_path / "c.pth")] == ["c.pth", "c.7.pth"]


def test_another_runs_checkpoints_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "new" / "c.pth"
    prepare(path, continued=None)
    write_four(path, 2)
    before = {found.read_bytes() for found in path.parent.iterdir()}
    prepare(path, continued=None)
    assert existing(path) == []
    assert {found.read_bytes() for found in path.parent.iterdir()} == before


def test_a_continued_runs_are_kept_and_damaged_newer_ones_make_room(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    write_four(path, 2)
    temporary_name(path).touch()
    prepare(path, continued=path)
    assert names(tmp_path) == ["c.1.pth", "c.pth"]
    prepare(path, continued=tmp_path / "c.1.pth")
    assert names(tmp_path) == ["c.1.pth", "c.damaged.pth"]


def test_a_path_that_cannot_be_written_is_found_out_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="--save_ckpt_path"):
        prepare(tmp_path / "file" / "c.pth", continued=None)


def test_a_full_disk_is_a_warning_until_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    path = tmp_path / "c.pth"
    write_checkpoint(path, content(0))
    before = path.read_bytes()
    writer = CheckpointWriter(path, 2, said.append)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        writer.write(content(1))
        writer.wait()
        assert "warning: " in said[0]
        assert "No space left on device" in said[0]
        with pytest.raises(RunError, match="No space left"):
            writer.finish()
        assert path.read_bytes() == before
    writer.write(content(2))
    writer.finish()
    writer.close()
    assert seeds(path) == [2, 0]


def test_weights_that_are_not_finite_replace_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "c.pth"
    writer = CheckpointWriter(path, 1, said.append)
    writer.write(content(1))
    writer.write(content(2, float("nan")))
    writer.close()
    assert "weight is not finite" in said[0]
    assert seeds(path) == [1]
