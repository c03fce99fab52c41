"""Checkpoints that are read by somebody who trusts none of them, and compared bit by bit."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.chaos.checkpoints import differences, family, foreign_names, newest_whole, read


def content(epoch: int = 3, step: int = 1) -> dict[str, Any]:
    return {
        "last_model_state_dict": {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(7)},
        "last_optimizer_state_dict": {
            "state": {0: {"momentum_buffer": torch.ones(3)}},
            "param_groups": [{"lr": 0.1}],
        },
        "mean_dice": 0.25,
        "last_epoch": epoch,
        "last_step": step,
    }


class TestDifferences:
    def test_the_same_has_none(self) -> None:
        assert differences(content(), content()) == []

    @pytest.mark.parametrize(
        ("change", "place"),
        [
            (lambda m, s, c: m["weight"].view(torch.int32)[1, 2].bitwise_xor_(1), "weight: 1 of 24"),
            (lambda m, s, c: m.update(count=torch.tensor(8)), "count: 1 of 8 bytes"),
            (lambda m, s, c: m.update(count=torch.tensor(7.0)), "count: torch.int64"),
            (lambda m, s, c: m.pop("count"), "keys differ: ['count']"),
            (lambda m, s, c: s["state"][0]["momentum_buffer"].mul_(2), "momentum_buffer"),
            (lambda m, s, c: s["param_groups"][0].update(lr=0.2), "[0]/lr: 0.1, found 0.2"),
            (lambda m, s, c: s["param_groups"].append({}), "1 items, found 2"),
            (lambda m, s, c: c.update(mean_dice=math.nextafter(0.25, 1)), "/mean_dice"),
            (lambda m, s, c: c.update(last_step=True), "int, found bool"),
        ],
    )
    def test_a_change_is_found_where_it_is(self, change: Any, place: str) -> None:
        other = content()
        change(other["last_model_state_dict"], other["last_optimizer_state_dict"], other)
        (line,) = differences(content(), other)
        assert place in line

    def test_numbers_are_compared_by_their_bits(self) -> None:
        assert differences({"a": math.nan}, {"a": math.nan}) == []
        assert differences({"a": torch.tensor(math.nan)}, {"a": torch.tensor(math.nan)}) == []
        assert differences({"a": 0.0}, {"a": -0.0}) != []
        assert differences({"a": torch.tensor(0.0)}, {"a": torch.tensor(-0.0)}) != []

    def test_only_some_of_many_are_listed(self) -> None:
        zeros, ones = dict.fromkeys(range(99), 0), dict.fromkeys(range(99), 1)
        assert len(differences(zeros, ones)) == 5


class TestFamily:
    def test_the_newest_comes_first_and_a_damaged_one_is_passed_over(self, tmp_path: Path) -> None:
        newest = tmp_path / "c.pth"
        assert newest_whole(newest) is None
        for path, step in ((newest, 3), (tmp_path / "c.1.pth", 2), (tmp_path / "c.2.pth", 1)):
            torch.save(content(step=step), path)
        for other in (".c.pth.tmp", "c.damaged.pth", "d.pth"):
            (tmp_path / other).touch()
        assert [path.name for path in family(newest)] == ["c.pth", "c.1.pth", "c.2.pth"]
        assert foreign_names(newest, 2) == [".c.pth.tmp", "c.2.pth", "d.pth"]
        found = newest_whole(newest)
        assert found
        assert (found.path, found.steps(4)) == (newest, 15)
        newest.write_bytes(newest.read_bytes()[:1000])
        found = newest_whole(newest)
        assert found
        assert (found.path.name, found.step) == ("c.1.pth", 2)

    def test_no_damage_is_taken_for_a_checkpoint(self, tmp_path: Path) -> None:
        path = tmp_path / "c.pth"
        torch.save(content(), path)
        whole = path.read_bytes()
        weight = whole.index(torch.arange(6.0).numpy().tobytes())
        for damaged in (b"", whole[:-1], whole[: len(whole) // 2], bytes(len(whole))):
            path.write_bytes(damaged)
            assert read(path) is None
        flipped = bytearray(whole)
        flipped[weight] ^= 1
        path.write_bytes(bytes(flipped))
        assert read(path) is None
