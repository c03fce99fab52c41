"""What holds for every draw: where patches lie, and what draws depend on."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.draw import Augmentation, Box, CropWindow, DrawConfig, Shape, draw

Key = tuple[int, int, int]
"""Seed, epoch, sample."""

sides = st.tuples(*[st.integers(1, 20)] * 3)
keys = st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 2**40), st.integers(0, 2**40))


@st.composite
def boxes_in(draw_from: st.DrawFn, volume: Shape) -> Box:
    start = tuple(draw_from(st.integers(0, n - 1)) for n in volume)
    stop = tuple(draw_from(st.integers(a + 1, n)) for a, n in zip(start, volume, strict=True))
    return Box(start, stop)  # type: ignore[arg-type]


@st.composite
def volumes(draw_from: st.DrawFn) -> tuple[Shape, Shape, tuple[tuple[Box, ...], ...]]:
    """Patch, volume, and up to two boxes of up to two classes."""
    patch, extra = draw_from(sides), draw_from(sides)
    volume = tuple(p + e - 1 for p, e in zip(patch, extra, strict=True))
    of_class = st.lists(boxes_in(volume), min_size=1, max_size=2).map(tuple)  # type: ignore[arg-type]
    return patch, volume, tuple(draw_from(st.lists(of_class, max_size=2)))  # type: ignore[return-value]


def drawn(
    key: Key, patch: Shape, volume: Shape, boxes: tuple[tuple[Box, ...], ...], oversampling: float
) -> tuple[CropWindow, Augmentation]:
    seed, epoch, sample = key
    config = DrawConfig(patch_shape=patch, oversampling=oversampling)
    return draw(config, seed=seed, epoch=epoch, sample=sample, volume_shape=volume, boxes=lambda: boxes)


@settings(max_examples=100)
@given(volumes(), keys, st.sampled_from([0.0, 0.4, 1.0]))
def test_a_patch_lies_inside_its_volume_and_its_augmentation_in_its_ranges(
    where: tuple[Shape, Shape, tuple[tuple[Box, ...], ...]], key: Key, oversampling: float
) -> None:
    patch, volume, boxes = where
    window, augmentation = drawn(key, patch, volume, boxes, oversampling)
    assert window.shape == patch
    assert all(0 <= a <= n - p for a, p, n in zip(window.start, patch, volume, strict=True))
    assert augmentation.brightness == 1.0 or 1.7 <= augmentation.brightness < 2.3
    assert 0 <= augmentation.noise_sigma < 0.1
    assert 0 <= augmentation.noise_seed < 2**64


@settings(max_examples=100)
@given(volumes(), keys)
def test_an_oversampled_patch_holds_a_box_or_lies_in_it_along_each_axis(
    where: tuple[Shape, Shape, tuple[tuple[Box, ...], ...]], key: Key
) -> None:
    patch, volume, boxes = where
    window, _ = drawn(key, patch, volume, boxes, 1.0)

    def fits(box: Box) -> bool:
        for start, size, low, high in zip(window.start, patch, *box, strict=True):
            holds = start <= low and high <= start + size
            inside = low <= start and start + size <= high
            if not (holds or inside):
                return False
        return True

    assert not boxes or any(fits(box) for of_class in boxes for box in of_class)


@settings(max_examples=50)
@given(st.lists(keys, min_size=1, max_size=8, unique=True), volumes(), st.randoms())
def test_a_draw_knows_nothing_of_other_draws(
    asked: list[Key], where: tuple[Shape, Shape, tuple[tuple[Box, ...], ...]], shuffle: random.Random
) -> None:
    patch, volume, boxes = where
    first = {key: drawn(key, patch, volume, boxes, 0.4) for key in asked}
    shuffle.shuffle(asked)
    for key in asked:
        np.random.seed(key[2] % 2**32)
        random.seed(key[2])
        assert drawn(key, patch, volume, boxes, 0.4) == first[key]
    # Other boxes are another crop, and nothing else.
    assert {k: found[1] for k, found in first.items()} == {
        k: drawn(k, patch, volume, (), 1.0)[1] for k in asked
    }
