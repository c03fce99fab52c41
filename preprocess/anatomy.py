"""What a phantom looks like: ellipsoids with Hounsfield units, painted plane by plane. Needs numpy only.

Coordinates run from -1 to 1 along D, H, W, whatever the voxel spacing; the anatomy fills the field of view.
The Hounsfield units are chosen to be learnt quickly, not to be true: a tumour is brighter than a kidney and a
kidney brighter than its surroundings, so that the blurred edge of either never looks like a tumour. Only the
edge of bone does, and bone lies apart.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.geometry import Shape3

AIR, FAT, SOFT, LIVER, KIDNEY, TUMOUR, BONE = -1000.0, -100.0, 30.0, 60.0, 145.0, 235.0, 450.0
"""Mean Hounsfield units. The specification clips at -79 and 304."""

Point = tuple[float, float, float]
PlaneAndLabel = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]

_ENDLESS = float("inf")


@dataclass(frozen=True)
class Ellipsoid:
    """A solid at ``centre`` with semi-axes ``radii`` along D, H, W; an infinite one makes a cylinder."""

    centre: Point
    radii: Point
    hu: float
    label: int = 0


def draw_anatomy(rng: np.random.Generator, shape: Shape3, tiny_tumour: bool = False) -> list[Ellipsoid]:
    """The organs of one case in painting order: body, liver, spine, two kidneys, one or two tumours.

    Args:
        rng: the case's own generator.
        shape: ``(D, H, W)`` of the grid it will be painted on; no tumour is thinner than three voxels.
        tiny_tumour: one tumour of a few voxels instead of the usual ones.
    """
    body = (_ENDLESS, float(rng.uniform(0.82, 0.90)), float(rng.uniform(0.90, 0.97)))
    inner = (_ENDLESS, body[1] - 0.06, body[2] - 0.06)
    organs = [
        Ellipsoid((0, 0, 0), body, FAT),
        Ellipsoid((0, 0, 0), inner, SOFT),
        Ellipsoid((float(rng.uniform(0.3, 0.5)), -0.35, -0.3), (0.5, 0.3, 0.4), LIVER),
        Ellipsoid((0, 0.55, 0), (_ENDLESS, 0.15, 0.13), BONE),
    ]
    kidneys = [_draw_kidney(rng, side) for side in (-1, 1)]
    count = 1 if tiny_tumour else int(rng.integers(1, 3))
    first = int(rng.integers(2))
    tumours = []
    for kidney in (kidneys[first], kidneys[1 - first])[:count]:
        size = 0.045 if tiny_tumour else float(rng.uniform(0.15, 0.26))
        tumours.append(_draw_tumour(rng, kidney, size, shape))
    return organs + kidneys + tumours


def _draw_kidney(rng: np.random.Generator, side: int) -> Ellipsoid:
    centre = (
        float(rng.uniform(-0.2, 0.2)),
        float(rng.uniform(0.08, 0.2)),
        side * float(rng.uniform(0.42, 0.5)),
    )
    radii = (float(rng.uniform(0.38, 0.5)), float(rng.uniform(0.2, 0.25)), float(rng.uniform(0.18, 0.22)))
    return Ellipsoid(centre, radii, KIDNEY, label=1)


def _draw_tumour(rng: np.random.Generator, kidney: Ellipsoid, size: float, shape: Shape3) -> Ellipsoid:
    """A tumour centred just under the kidney's surface, on the side away from the spine."""
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    direction[1] = -abs(direction[1])
    direction[2] = np.copysign(direction[2], kidney.centre[2])
    d, h, w = (c + 0.75 * r * n for c, r, n in zip(kidney.centre, kidney.radii, direction, strict=True))
    stretch = rng.uniform(0.9, 1.1, 3)
    rd, rh, rw = (max(size * s, 3.0 / n) for s, n in zip(stretch, shape, strict=True))
    return Ellipsoid((float(d), float(h), float(w)), (float(rd), float(rh), float(rw)), TUMOUR, label=2)


def paint(organs: Sequence[Ellipsoid], shape: Shape3, order: tuple[int, int, int]) -> Iterator[PlaneAndLabel]:
    """Paint the organs, later over earlier ones.

    Args:
        organs: what to paint, over air.
        shape: ``(D, H, W)`` of the grid.
        order: which axis is the outermost, the middle and the innermost one: ``(0, 1, 2)`` gives D planes of
            ``(H, W)``, ``(2, 1, 0)`` the W planes ``(H, D)`` of a NIfTI file.

    Yields:
        Hounsfield units (float32) and labels (uint8) of every plane in order; new arrays each time.
    """
    outer, rows, columns = ((2 * np.arange(shape[axis]) + 1) / shape[axis] - 1 for axis in order)
    placed = [(organ, [(organ.centre[axis], organ.radii[axis]) for axis in order]) for organ in organs]
    for position in outer:
        plane = np.full((len(rows), len(columns)), AIR, np.float32)
        label = np.zeros(plane.shape, np.uint8)
        for organ, ((centre, radius), along_rows, along_columns) in placed:
            left = 1 - ((position - centre) / radius) ** 2
            if left <= 0:
                continue
            r, row_part = _reach(rows, *along_rows, left)
            c, column_part = _reach(columns, *along_columns, left)
            inside = row_part[:, None] + column_part <= left
            plane[r, c][inside] = organ.hu
            label[r, c][inside] = organ.label
        yield plane, label


def _reach(
    grid: npt.NDArray[np.float64], centre: float, radius: float, left: float
) -> tuple[slice, npt.NDArray[np.float32]]:
    """The part of ``grid`` that an ellipsoid can reach, and that axis's squared share there."""
    extent = radius * np.sqrt(left)
    start, stop = np.searchsorted(grid, (centre - extent, centre + extent))
    return slice(int(start), int(stop)), (((grid[start:stop] - centre) / radius) ** 2).astype(np.float32)
