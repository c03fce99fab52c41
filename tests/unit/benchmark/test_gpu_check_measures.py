"""How a GPU check judges and times, on a CPU and on a clock that is made up."""

from collections.abc import Callable

import pytest
import torch

from benchmark.gpu_check import curves, items, problems, timing
from benchmark.gpu_check.exactness import compare, filled_with_nan
from benchmark.gpu_check.problem import Maker, Problem, Tensors
from benchmark.gpu_check.scale import DRY, REAL, ndhwc
from benchmark.gpu_check.steps import learnable

CPU = torch.device("cpu")


class TestExactness:
    def problem(self, error: float = 0.0, noise: bool = False) -> Problem:
        """y = w x in float16; the kernel is off by ``error`` of the whole, or by chance."""

        def run(given: Tensors, backend: str) -> Tensors:
            y = given["x"] * given["w"].to(given["x"].dtype)
            if backend == "triton":
                y = y * (1 + error) + (torch.rand(()) if noise else 0)
            return {"y": y}

        x = ndhwc((3, 2, 4, 4, 4), torch.float16, CPU, 0)
        return Problem(
            run=run,
            inputs={"x": x, "w": torch.tensor(1.5)},
            of_samples=frozenset({"x"}),
            wanted=("x", "w"),
            upstream={"y": ndhwc((3, 2, 4, 4, 4), torch.float16, CPU, 1)},
        )

    def test_what_pytorch_does_is_right(self) -> None:
        found = compare(self.problem())
        assert found["wrong"] == []
        assert found["repeatable"]
        assert set(found["errors"]) == {"y", "d_x", "d_w"}
        assert 0 < found["errors"]["y"]["kernel"] == found["errors"]["y"]["native"] < 1e-3

    def test_what_is_further_off_is_wrong(self) -> None:
        assert compare(self.problem(error=0.01))["wrong"] == ["y", "d_x", "d_w"]

    def test_what_is_no_number_is_wrong(self) -> None:
        found = compare(self.problem(error=float("nan")))
        assert found["wrong"] == ["y", "d_x", "d_w"]
        assert found["errors"]["y"]["kernel"] is None

    def test_other_bits_the_second_time_are_wrong(self) -> None:
        found = compare(self.problem(noise=True))
        assert found["repeatable"] is False
        assert "y" in found["wrong"]

    def test_memory_is_no_number_beforehand_and_only_there(self) -> None:
        before = torch.are_deterministic_algorithms_enabled()
        with filled_with_nan():
            assert torch.empty(5).isnan().all()
            assert torch.empty_like(torch.ones(3, dtype=torch.float16)).isnan().all()
        assert torch.are_deterministic_algorithms_enabled() == before


@pytest.mark.parametrize(
    ("op", "names", "shape"), items.operations(DRY, 2), ids=lambda value: str(value)[:20]
)
def test_problems_mean_the_same_to_twin_and_to_pytorch(
    op: str, names: list[str], shape: dict[str, int]
) -> None:
    whole = getattr(problems, op)(Maker(torch.float32, CPU), **shape).exact()
    native, twin = whole.solve("native"), whole.solve("reference")
    assert native.keys() == twin.keys()
    assert any(name.startswith("d_") for name in native)
    for name, value in native.items():
        torch.testing.assert_close(twin[name], value, rtol=1e-8, atol=1e-8)
    parts = [whole.sample(number).solve("native") for number in range(whole.samples)]
    for name, value in native.items():
        of_samples = value.dim() == 5 and len(value) == whole.samples and "weight" not in name
        mean = sum(part[name] for part in parts) / (len(parts) if name in whole.means else 1)
        joined = torch.cat([part[name] for part in parts]) if of_samples else mean
        torch.testing.assert_close(joined, value, rtol=1e-8, atol=1e-8)


def test_windows_mean_the_same_to_twin_and_to_pytorch() -> None:
    whole = problems.windows(Maker(torch.float32, CPU), 8, 4).exact()
    native, twin = whole.forward("native"), whole.forward("reference")
    torch.testing.assert_close(twin["y"], native["y"], rtol=1e-12, atol=1e-12)
    assert not torch.equal(native["y"], whole.inputs["volume"])


def test_a_time_is_that_of_one_call() -> None:
    called: list[int] = []
    found = timing.time_calls([lambda: called.append(0), lambda: called.append(1)], DRY)
    assert found.copies == 2
    assert found.how == "host clock"
    assert called.count(0) == called.count(1) == 2 + found.samples
    assert 0 < found.low_s <= found.median_s <= found.high_s < 1
    assert timing.copies_beyond_cache(1, CPU) == 1


@pytest.mark.parametrize(("takes_s", "how"), [(10e-6, "graph"), (3e-3, "events")])
@pytest.mark.parametrize("copies", [1, 3])
def test_a_time_is_that_of_one_call_on_a_gpu_too(
    monkeypatch: pytest.MonkeyPatch, takes_s: float, how: str, copies: int
) -> None:
    """With a clock that the calls move, and events that cost what ten of the shorter calls do."""
    device_s = [0.0]

    def call() -> None:
        device_s[0] += takes_s

    def elapsed(run: Callable[[], object], device: torch.device) -> float:
        begin = device_s[0]
        run()
        return device_s[0] - begin + 100e-6

    def recorded(calls: list[Callable[[], object]], turns: int) -> Callable[[], object]:
        assert copies <= turns * len(calls) < timing.CALLS_OF_GRAPH + copies
        return lambda: [one() for _ in range(turns) for one in calls]

    monkeypatch.setattr(timing, "_elapsed", elapsed)
    monkeypatch.setattr(timing, "_recorded", recorded)
    found = timing.time_calls([call] * copies, REAL)
    assert found.how == how
    assert takes_s < found.median_s < 1.03 * takes_s
    assert REAL.min_samples <= found.samples <= timing.MOST_SAMPLES


def test_labels_can_be_told_from_images() -> None:
    image, label = learnable(DRY, 2, 16, "NDHWC", 3)
    assert image.shape == label.shape == (2, 1, 16, 16, 16)
    assert label.unique().tolist() == [0, 1, 2]
    assert image[label == 2].mean() > image[label == 1].mean() > image[label == 0].mean()
    assert torch.equal(learnable(DRY, 2, 16, "NCDHW", 3)[0], image)


class TestCurves:
    native = tuple(1 / (1 + step / 50) for step in range(100))

    def test_equal_ones_agree(self) -> None:
        found = curves.judged({"native": self.native, "fused": self.native})
        assert found["agrees"]
        assert found["largest_and_mean_difference"] == {"fused": [0.0, 0.0]}

    def test_one_that_leaves_does_not_unless_native_ones_do_too(self) -> None:
        away = [loss + step / 1000 for step, loss in enumerate(self.native)]
        assert not curves.judged({"native": self.native, "fused": away})["agrees"]
        assert curves.judged({"native": self.native, "fused": away, "native again": away})["agrees"]

    def test_one_that_is_no_number_does_not(self) -> None:
        broken = [*self.native[:50], *[float("nan")] * 50]
        assert not curves.judged({"native": self.native, "fused": broken})["agrees"]
        assert not curves.judged({"native": broken, "fused": broken, "native again": broken})["agrees"]
