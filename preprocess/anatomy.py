"""What a phantom looks like: ellipsoids with Hounsfield units, painted plane by plane. Needs numpy only.

Coordinates run from -1 to 1 along D, H, W, whatever the voxel spacing; the anatomy fills the field of view.
The Hounsfield units are chosen to be learnt quickly, not to be true: a tumour is brighter than a kidney and a
kidney brighter than all around it, so that no blurred edge looks like a tumour. Where organs are ``LARGE``
that holds for bone too: instance norms see a patch's contrasts and not its Hounsfield units, and take the
brightest thing in a patch without a kidney for one until they have seen many.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.geometry import Shape3

AIR, FAT, SOFT, LIVER, KIDNEY, TUMOUR = -1000.0, -100.0, 0.0, -25.0, 150.0, 270.0
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


Range = tuple[float, float]


@dataclass(frozen=True)
class Build:
    """How large organs are and where; ranges are drawn from uniformly."""

    kidney_radii: tuple[Range, Range, Range]
    kidney_depth: Range
    """Centre of a kidney along H; larger is nearer to the back."""
    tumour_radius: Range
    tumours: tuple[int, int]
    """Fewest and most; no kidney has more than one."""
    spine_depth: float
    spine_radius: float
    spine_hu: float


NATURAL = Build(
    kidney_radii=((0.38, 0.5), (0.2, 0.25), (0.18, 0.22)),
    kidney_depth=(0.08, 0.2),
    tumour_radius=(0.15, 0.26),
    tumours=(1, 2),
    spine_depth=0.55,
    spine_radius=0.14,
    spine_hu=450.0,
)
"""About a body's proportions: 2 % of the voxels are kidney, 0.4 % tumour."""

LARGE = Build(
    kidney_radii=((0.42, 0.55), (0.32, 0.4), (0.28, 0.36)),
    kidney_depth=(-0.1, 0.1),
    tumour_radius=(0.24, 0.34),
    tumours=(2, 2),
    spine_depth=0.72,
    spine_radius=0.1,
    spine_hu=-50.0,
)
"""Organs so large that most 64^3 patches of a 128^3 volume hold all classes: 5 % kidney, 2.5 % tumour."""


def draw_anatomy(
    rng: np.random.Generator, shape: Shape3, build: Build, tiny_tumour: bool = False
) -> list[Ellipsoid]:
    """The organs of one case in painting order: body, liver, spine, two kidneys, one or two tumours.

    Args:
        rng: the case's own generator.
        shape: ``(D, H, W)`` of the grid it will be painted on; no tumour is thinner than three voxels.
        build: the organs' sizes.
        tiny_tumour: one tumour of a few voxels instead of the usual ones.
    """
    body = (_ENDLESS, float(rng.uniform(0.82, 0.90)), float(rng.uniform(0.90, 0.97)))
    inner = (_ENDLESS, body[1] - 0.06, body[2] - 0.06)
    organs = [
        Ellipsoid((0, 0, 0), body, FAT),
        Ellipsoid((0, 0, 0), inner, SOFT),
        Ellipsoid((float(rng.uniform(0.3, 0.5)), -0.35, -0.3), (0.5, 0.3, 0.4), LIVER),
        Ellipsoid(
            (0, build.spine_depth, 0), (_ENDLESS, build.spine_radius, build.spine_radius), build.spine_hu
        ),
    ]
    kidneys = [_draw_kidney(rng, build, side) for side in (-1, 1)]
    count = 1 if tiny_tumour else int(rng.integers(build.tumours[0], build.tumours[1] + 1))
    first = int(rng.integers(2))
    tumours = []
    for kidney in (kidneys[first], kidneys[1 - first])[:count]:
        size = 0.045 if tiny_tumour else float(rng.uniform(*build.tumour_radius))
        tumours.append(_draw_tumour(rng, kidney, size, shape))
    return organs + kidneys + tumours


def _draw_kidney(rng: np.random.Generator, build: Build, side: int) -> Ellipsoid:
    depth = float(rng.uniform(*build.kidney_depth))
    centre = (float(rng.uniform(-0.2, 0.2)), depth, side * float(rng.uniform(0.42, 0.5)))
    rd, rh, rw = (float(rng.uniform(*limits)) for limits in build.kidney_radii)
    return Ellipsoid(centre, (rd, rh, rw), KIDNEY, label=1)


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
