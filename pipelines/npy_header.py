"""The header of a ``.npy`` file, read strictly: what ``numpy.save`` writes, and nothing else.

numpy's reader hands the header to Python's parser, which meets damaged ones with errors of several kinds and
with warnings; and it makes room for as many bytes as a header claims to have, up to 4 GiB.
The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import re
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_MAGIC = b"\x93NUMPY"
_LENGTHS = {(1, 0): "<H", (2, 0): "<I"}
"""How each version of the format writes the length of its header."""
_LONGEST = 10_000
"""Bytes of a header: numpy's own limit, and a hundred times what an array of plain numbers needs."""
_ALIGNMENT = 16
"""Bytes; numpy pads headers so that the data begins at a multiple of it, and now of 64."""
_HEADER = re.compile(
    rb"\{\s*'descr':\s*'([<>=|]?[?biufcOSUV]\d{0,2})',"
    rb"\s*'fortran_order':\s*(True|False),"
    rb"\s*'shape':\s*\(((?:\s*\d{1,18}\s*,){0,32}(?:\s*\d{1,18})?)\s*\)(?:\s*,)?\s*\}\s*"
)


class NpyHeader(NamedTuple):
    """What a header says."""

    shape: tuple[int, ...]
    fortran: bool
    """Whether the first axis is the fastest."""
    dtype: np.dtype[Any]
    offset: int
    """Bytes before the data."""


def read_header(file: BinaryIO) -> NpyHeader:
    """The header of the ``.npy`` file that ``file`` begins, which is left behind it.

    Raises:
        ValueError: it is none of version 1.0 or 2.0 that names one dtype and a shape; the message says why.
    """
    start = file.read(len(_MAGIC) + 2)
    if len(start) < len(_MAGIC) + 2 or not start.startswith(_MAGIC):
        raise ValueError("it does not begin as one")
    version = (start[-2], start[-1])
    if version not in _LENGTHS:
        raise ValueError(f"version {version} of the format, expected 1.0 or 2.0")
    room = struct.calcsize(_LENGTHS[version])
    field = file.read(room)
    length = struct.unpack(_LENGTHS[version], field)[0] if len(field) == room else 0
    if length > _LONGEST:
        raise ValueError(f"a header of {length} bytes, expected at most {_LONGEST}")
    text = file.read(length)
    if len(text) < length or not length:
        raise ValueError("its header is cut off")
    if not (found := _HEADER.fullmatch(text)):
        raise ValueError("its header does not name a dtype, an order and a shape as numpy.save writes them")
    try:
        dtype = np.dtype(found[1].decode("ascii"))
    except TypeError as error:
        raise ValueError(f"its header names {found[1].decode('ascii')}, which is no dtype") from error
    offset = len(start) + room + length
    if offset % _ALIGNMENT:
        raise ValueError(f"its header ends after {offset} bytes, expected a multiple of {_ALIGNMENT}")
    shape = tuple(int(size) for size in found[3].split(b",") if size.strip())
    return NpyHeader(shape, found[2] == b"True", dtype, offset)
