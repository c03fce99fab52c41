import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import draw as module
from pipelines.draw import Augmentation, Box, Boxes, CropWindow, DrawConfig, Slot, Stream, draw, random_bits
from pipelines.errors import DataError

PINNED = [7416489092410282646, 10811967914172824907]
VOLUME = (40, 50, 60)
CONFIG = DrawConfig(patch_shape=(16, 16, 16))
BOXES: Boxes = ((Box((2, 3, 4), (10, 9, 8)), Box((20, 30, 40), (38, 48, 50))), (Box((0, 0, 0), (3, 3, 3)),))
"""Three components of two classes."""


def cube(corner: int) -> Box:
    return Box((corner,) * 3, (corner + 4,) * 3)


MIDDLE: Boxes = ((cube(14), cube(16)), (cube(18), cube(20)))
"""Components from which no window reaches the border of the volume."""


def one(
    sample: int = 0, *, seed: int = 1, epoch: int = 1, config: DrawConfig = CONFIG, boxes: Boxes = BOXES
) -> tuple[CropWindow, Augmentation]:
    return draw(config, seed=seed, epoch=epoch, sample=sample, volume_shape=VOLUME, boxes=lambda: boxes)


def test_the_bits_are_philox_and_stay_what_they_are() -> None:
    """Pinned, so that a run recorded today resumes with the numpy of tomorrow."""
    words = random_bits(42, 3, Stream.SAMPLE, 17, 2)
    assert words.tolist() == PINNED


def test_a_draw_depends_on_seed_epoch_and_sample_alone() -> None:
    assert one(5) == one(5)
    draws = {
        one(sample, seed=seed, epoch=epoch) for sample in range(5) for seed in (1, 2) for epoch in (1, 2)
    }
    assert len(draws) == 20


def test_streams_and_samples_share_no_words() -> None:
    words = np.concatenate(
        [
            random_bits(1, epoch, stream, sample, 64)
            for epoch in (1, 2)
            for stream in Stream
            for sample in (0, 1)
        ]
    )
    assert len(np.unique(words)) == len(words)


def test_a_decision_hangs_on_its_own_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing one word changes the one decision that owns it."""
    base = np.full(len(Slot), np.uint64(2**63), dtype=np.uint64)
    # All gates open: biased crop, brightness and noise are drawn.
    base[[Slot.BIASED, Slot.BRIGHTNESS, Slot.NOISE]] = 0

    def outcome(slot: Slot | None, word: int) -> dict[str, object]:
        words = base.copy()
        if slot is not None:
            words[slot] = np.uint64(word)
        monkeypatch.setattr(module, "random_bits", lambda *_: words)
        window, augmentation = one(boxes=MIDDLE)
        flat = dict(zip("dhw", window.start, strict=True))
        flat |= dict(zip(("flip_d", "flip_h", "flip_w"), augmentation.flips, strict=True))
        return flat | augmentation._asdict()

    plain = outcome(None, 0)
    expected = {
        Slot.OFFSET_D: {"d"},
        Slot.OFFSET_H: {"h"},
        Slot.OFFSET_W: {"w"},
        Slot.FLIP_D: {"flip_d", "flips"},
        Slot.FLIP_H: {"flip_h", "flips"},
        Slot.FLIP_W: {"flip_w", "flips"},
        Slot.BRIGHTNESS_FACTOR: {"brightness"},
        Slot.NOISE_SIGMA: {"noise_sigma"},
        Slot.NOISE_SEED: {"noise_seed"},
    }
    for slot, names in expected.items():
        other = outcome(slot, 1)
        assert {name for name in plain if plain[name] != other[name]} == names, slot
    closed = {Slot.BRIGHTNESS: {"brightness"}, Slot.NOISE: {"noise_sigma"}, Slot.BIASED: set("dhw")}
    for slot, names in closed.items():
        other = outcome(slot, 2**64 - 1)
        assert {name for name in plain if plain[name] != other[name]} == names, slot
    for slot in (Slot.CLASS, Slot.BOX):
        other = outcome(slot, 1)
        assert {name for name in plain if plain[name] != other[name]} == set("dhw"), slot


shapes = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))


def reference_adjust(start: int, stop: int, patch: int, size: int, u: float) -> tuple[int, int]:
    """RandBalancedCrop's rule as a formula, with ``u`` in place of its generator."""
    diff = patch - (stop - start)
    sign, diff = (-1 if diff < 0 else 1), abs(diff)
    left = 0 if diff == 0 else int(u * diff)
    low, high = max(0, start - sign * left), min(size, stop + sign * (diff - left))
    missing = patch - (high - low)
    if missing > 0 and low == 0:
        high += missing
    elif missing > 0:
        low -= missing
    return low, high


@given(shapes, shapes, st.data())
def test_biased_windows_obey_the_reference_rule(
    patch: tuple[int, int, int], extra: tuple[int, int, int], data: st.DataObject
) -> None:
    volume = tuple(p + e for p, e in zip(patch, extra, strict=True))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in volume)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, volume, strict=True))
    sample = data.draw(st.integers(0, 2**40))
    config = DrawConfig(patch_shape=patch, oversampling=1.0)
    window, _ = draw(
        config, seed=1, epoch=1, sample=sample, volume_shape=volume, boxes=lambda: ((Box(start, stop),),)
    )
    u = (random_bits(1, 1, Stream.SAMPLE, sample, len(Slot)) >> np.uint64(11)) * 2.0**-53
    for axis, slot in enumerate((Slot.OFFSET_D, Slot.OFFSET_H, Slot.OFFSET_W)):
        low, high = reference_adjust(start[axis], stop[axis], patch[axis], volume[axis], u[slot])
        assert (window.start[axis], window.start[axis] + window.shape[axis]) == (low, high)
        assert low >= 0
        assert high <= volume[axis]


@given(st.integers(0, 10_000))
def test_unbiased_windows_lie_inside_and_stop_short_of_the_end(sample: int) -> None:
    window, _ = one(sample, config=DrawConfig(patch_shape=(16, 50, 16), oversampling=0.0))
    assert window.start[1] == 0, "no room, no choice"
    assert 0 <= window.start[0] < 24
    assert 0 <= window.start[2] < 44


def test_labels_are_asked_for_by_biased_crops_only() -> None:
    asked = []
    for sample in range(2000):
        draw(
            CONFIG,
            seed=1,
            epoch=1,
            sample=sample,
            volume_shape=VOLUME,
            boxes=lambda sample=sample: asked.append(sample) or BOXES,
        )
    assert len(asked) / 2000 == pytest.approx(0.4, abs=0.04)


def test_a_case_without_foreground_is_cropped_without_bias() -> None:
    biased, unbiased = (
        DrawConfig(patch_shape=(16, 16, 16), oversampling=1.0),
        DrawConfig(patch_shape=(16, 16, 16), oversampling=0.0),
    )
    assert one(3, config=biased, boxes=()) == one(3, config=unbiased)


def test_classes_and_boxes_are_chosen_uniformly() -> None:
    """Class 1 has two boxes, class 2 has one: 1/4, 1/4 and 1/2."""
    config = DrawConfig(patch_shape=(1, 1, 1), oversampling=1.0)
    counts = np.zeros(3)
    boxes = [box for of_class in BOXES for box in of_class]
    for sample in range(4000):
        start = one(sample, config=config)[0].start
        inside = [all(a <= s < e for a, s, e in zip(b.start, start, b.stop, strict=True)) for b in boxes]
        counts[inside.index(True)] += 1
    np.testing.assert_allclose(counts / 4000, [0.25, 0.25, 0.5], atol=0.03)


def test_probabilities_and_ranges_of_augmentation() -> None:
    draws = [one(sample)[1] for sample in range(6000)]
    flips = np.array([d.flips for d in draws])
    np.testing.assert_allclose(flips.mean(axis=0), 1 / 3, atol=0.025)
    np.testing.assert_allclose(np.corrcoef(flips.T) - np.eye(3), 0, atol=0.05)
    bright = np.array([d.brightness for d in draws if d.brightness != 1.0])
    noisy = np.array([d.noise_sigma for d in draws if d.noise_sigma != 0.0])
    assert len(bright) / 6000 == pytest.approx(0.1, abs=0.015)
    assert len(noisy) / 6000 == pytest.approx(0.1, abs=0.015)
    assert 1.7 <= bright.min() < 1.72
    assert 2.28 < bright.max() < 2.3
    assert bright.mean() == pytest.approx(2.0, abs=0.02)
    assert 0 < noisy.min() < 0.003
    assert 0.097 < noisy.max() < 0.1
    assert noisy.mean() == pytest.approx(0.05, abs=0.004)
    assert len({d.noise_seed for d in draws}) == 6000


def test_nvidias_brightness_is_one_less() -> None:
    nvidia = DrawConfig(patch_shape=(16, 16, 16), brightness="nvidia")
    drawn = 0
    for sample in range(200):
        ours, theirs = one(sample)[1].brightness, one(sample, config=nvidia)[1].brightness
        drawn += ours != 1.0
        assert theirs == (1.0 if ours == 1.0 else pytest.approx(ours - 1.0))
    assert drawn > 5


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"patch of \(16, 51, 16\) .* volume of \(40, 50, 60\).*--input_shape"
    ):
        one(config=DrawConfig(patch_shape=(16, 51, 16)))
    with pytest.raises(DataError, match="--brightness bright is not one of reference, nvidia"):
        DrawConfig(brightness="bright")  # type: ignore[arg-type]
