"""Images that are not the published files: which are taken, and what is said of the others."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.errors import DataError
from preprocess.phantom import main as phantom
from runtime.preflight import voxels
from runtime.preflight.voxels import GREATEST, LEAST, Recorded, Voxels, measure, objections, shape_of
from tests.unit.runtime.preflight_cases import SHAPE, image


def saved(path: Path, volume: np.ndarray) -> Path:
    np.save(path, volume)
    return path


def judged(path: Path, recorded: Recorded | None = None, shape: tuple[int, int, int] = SHAPE) -> list[str]:
    return list(objections(measure(path), shape, recorded))


def test_numbers_are_numpys_whatever_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = image(0)
    path = saved(tmp_path / "case_00000_x.npy", volume)
    whole = measure(path)
    monkeypatch.setattr(voxels, "_CHUNK", 7)
    exact = volume.astype(np.float64)
    for found in (whole, measure(path)):
        assert (found.dtype, found.shape) == ("float32", SHAPE)
        assert (found.least, found.greatest) == (volume.min(), volume.max())
        assert found.mean == pytest.approx(exact.mean(), abs=1e-12)
        assert found.std == pytest.approx(exact.std(), abs=1e-12)


def test_phantoms_of_real_proportions_look_like_a_ct(tmp_path: Path) -> None:
    out = str(tmp_path)
    assert phantom(["--preprocessed", "--out", out, "--cases", "2", "--shape", "48", "64", "64"]) == 0
    for path in tmp_path.glob("*_x.npy"):
        assert judged(path, shape=shape_of(path.with_name(path.name.replace("_x", "_y")))) == []


@given(offset=st.floats(-3, 3, width=32), scale=st.floats(-4, 4, width=32), seed=st.integers(0, 9))
def test_other_constants_of_the_normalisation_are_seen(
    offset: float, scale: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    right = image(seed)
    # Any other line through the clip range moves its lower end, or leaves what is above it as it was.
    wrong = (right * np.float32(scale) + np.float32(offset)).astype(np.float32)
    assume(abs(wrong.min() - LEAST) > 1e-3)
    path = saved(tmp_path_factory.mktemp("image") / "case_00000_x.npy", wrong)
    assert judged(path)


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        (np.zeros((1, *SHAPE), np.float32), "has no value below 0.0000"),
        (np.full((1, *SHAPE), LEAST, np.float32), "has mean -2.3407"),
        (image(0) * 76.9 + 101, "has values from -79.0000"),
        (-image(0), "has no value below -"),
        (image(0).astype(np.float16), "holds float16, expected float32"),
        (image(0, (6, 6, 8)), "has shape 6 x 6 x 8, its label 4 x 6 x 8"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, volume: np.ndarray, said: str) -> None:
    volume = volume.astype(np.float32) if volume.dtype == np.float64 else volume
    path = saved(tmp_path / "case_00000_x.npy", volume)
    assert any(said in objection for objection in judged(path))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, -1])
def test_what_is_no_number_is_found_wherever_it_is(tmp_path: Path, value: float, place: int) -> None:
    volume = image(0)
    volume.reshape(-1)[place] = value
    with pytest.raises(DataError, match="not finite"):
        measure(saved(tmp_path / "case_00000_x.npy", volume))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04 an archive", bytes(200)])
def test_what_is_no_image_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "case_00000_x.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match="case_00000_x.npy"):
        measure(path)


def test_last_bits_may_differ_from_what_was_recorded_and_values_may_not(tmp_path: Path) -> None:
    volume = image(3)
    path = saved(tmp_path / "case_00000_x.npy", volume)
    exact = measure(path)
    recorded = Recorded(exact.mean, exact.std)
    nudged = np.where(volume > -1, np.nextafter(volume, np.float32(9)), volume)
    assert judged(saved(path, nudged), recorded) == []
    brighter = np.where(volume > 0, volume * np.float32(1.01), volume)
    said = judged(saved(path, brighter), recorded)
    assert said
    assert all("was written with" in objection for objection in said)


def test_bounds_are_those_of_the_derivation() -> None:
    parts, tissue, spread = (0.15, 0.95), (0.0, 120.0), (25.0, 75.0)
    means, variances = [], []
    for part in np.linspace(*parts, 81):
        for level in tissue:
            mean = (level - 101) / 76.9
            means.append(part * LEAST + (1 - part) * mean)
            variances += [
                (1 - part) * (s / 76.9) ** 2 + part * (1 - part) * (mean - LEAST) ** 2 for s in spread
            ]
    assert voxels.MEANS[0] <= min(means) < voxels.MEANS[0] + 0.05
    assert voxels.MEANS[1] - 0.05 < max(means) <= voxels.MEANS[1]
    assert voxels.DEVIATIONS[0] <= min(variances) ** 0.5 < voxels.DEVIATIONS[0] + 0.05
    assert voxels.DEVIATIONS[1] - 0.05 < max(variances) ** 0.5 <= voxels.DEVIATIONS[1]
    assert (round(LEAST, 3), round(GREATEST, 3)) == (-2.341, 2.640)


@pytest.mark.parametrize(("mean", "std"), [(-1.85, 0.98), (-2.0, 0.85), (-1.65, 1.11)])
def test_published_numbers_are_within_the_bounds(mean: float, std: float) -> None:
    assert list(objections(Voxels("float32", SHAPE, LEAST, GREATEST, mean, std), SHAPE, None)) == []
