"""What was drawn for a step, as the arrays that the DALI graph takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import noise_of
from pipelines.cases import Step
from pipelines.dali_loader import SKIPAHEAD, Draws
from pipelines.draw import Augmentation, Shape, noise_key

_UNUSED: Shape = (1, 1, 1)
"""Of the noise that the graph makes for a sample that gets none. Not empty: on a GPU DALI divides by the
number of blocks of each sample (``SetupBlockDescs`` of its ``operators/random/rng_base_gpu.h``)."""


def draws_of(
    augmentations: Sequence[Augmentation], shape: Shape, seed: int, step: Step, *, noise_in_graph: bool
) -> tuple[Any, ...]:
    """``Draws`` for the samples of a step, as arrays."""

    def scalars(values: list[Any], dtype: type[np.generic]) -> list[Any]:
        return [np.array(value, dtype=dtype) for value in values]

    noisy = [a.noise_sigma != 0.0 for a in augmentations]
    common = (
        scalars([any(a.flips) for a in augmentations], np.bool_),
        scalars([a.flips for a in augmentations], np.int32),
        scalars([a.brightness != 1.0 for a in augmentations], np.bool_),
        scalars([a.brightness for a in augmentations], np.float32),
        scalars(noisy, np.bool_),
    )
    if not noise_in_graph:
        made = [
            noise_of(a, shape)[None] if wanted else np.zeros((1, 0, 0, 0), np.float32)
            for a, wanted in zip(augmentations, noisy, strict=True)
        ]
        return Draws(*common, made)[:6]
    return Draws(
        *common,
        scalars([(1, *(shape if wanted else _UNUSED)) for wanted in noisy], np.int32),
        scalars([a.noise_sigma for a in augmentations], np.float32),
        [_philox_state(noise_key(seed, step.epoch), step.positions[0])] * len(augmentations),
    )


def _philox_state(key: int, position: int) -> NDArray[np.uint32]:
    """DALI's Philox state whose sample i draws from the sequence of place ``position + i`` of the epoch.

    Places of a step are consecutive, so that a sample's noise depends on its own place alone.
    """
    words = np.array([key, 0, position * SKIPAHEAD], dtype=np.uint64).view(np.uint32)
    return np.append(words, np.uint32(0))
