"""The header of a .npy file: numpy's own are read as numpy reads them, all others are refused."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from pipelines.npy_header import read_header

DTYPES = ("<f4", "<f2", "|u1", ">f4", "<f8", "<i2", "|b1", "<c8", "|O", "|S7", "<U3")


def header(text: str, version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """Magic, version, length and ``text``, padded so that data would begin at a multiple of 64."""
    room = 2 if version == (1, 0) else 4
    text += " " * (-(len(text) + 9 + room) % 64) + "\n"
    claimed = struct.pack("<H" if room == 2 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + claimed + text.encode("latin-1")


def of(dtype: object = "'<f4'", order: object = False, shape: object = (1, 2, 3, 4)) -> str:
    return f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}"


@settings(max_examples=100)
@given(
    st.sampled_from(DTYPES), st.booleans(), st.lists(st.integers(0, 2**40), max_size=6).map(tuple),
    st.sampled_from([(1, 0), (2, 0)]), st.binary(max_size=20),
)  # fmt: skip
def test_headers_of_numpy_are_read_as_numpy_reads_them(
    dtype: str, fortran: bool, shape: tuple[int, ...], version: tuple[int, int], data: bytes
) -> None:
    file = io.BytesIO()
    write = npy.write_array_header_1_0 if version == (1, 0) else npy.write_array_header_2_0
    write(file, {"descr": dtype, "fortran_order": fortran, "shape": shape})
    offset = file.tell()
    file.write(data)
    file.seek(0)
    found = read_header(file)
    assert found == (shape, fortran, np.dtype(dtype), offset)
    assert file.read() == data


@settings(max_examples=200)
@given(st.binary(max_size=30), st.integers(0, 127), st.integers(0, 30))
def test_a_damaged_header_is_refused_or_numpys(noise: bytes, at: int, length: int) -> None:
    whole = header(of())
    damaged = whole[:at] + noise + whole[at + length :]
    try:
        found = read_header(io.BytesIO(damaged))
    except ValueError:
        return
    file = io.BytesIO(damaged)
    read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    assert found == (shape, fortran, dtype, file.tell())


WRONG = {
    "nothing": (b"", "does not begin"),
    "another file": (b"\x89PNG\r\n\x1a\n" + bytes(100), "does not begin"),
    "no version": (b"\x93NUMPY\x01", "does not begin"),
    "version 3": (header(of(), (3, 0)), r"version \(3, 0\)"),
    "no length": (b"\x93NUMPY\x01\x00\x40", "cut off"),
    "a length of 0": (header("", length=0), "cut off"),
    "cut": (header(of())[:80], "cut off"),
    "64 KiB": (header(of(), length=2**16 - 1), "a header of 65535 bytes, expected at most"),
    "4 GiB": (header(of(), (2, 0), length=2**32 - 1), "a header of 4294967295 bytes, expected at most"),
    "not padded": (header(of())[:-1].replace(b"v\x00", b"u\x00"), "ends after 127 bytes"),
    "code": (header(of(shape="__import__('os').abort()")), "as numpy.save writes"),
    "an unclosed tuple": (header(of(shape="(1, 2")), "as numpy.save writes"),
    "an unclosed string": (header(of(dtype="'<f4")), "as numpy.save writes"),
    "a closing bracket": (header(of(shape="1)")), "as numpy.save writes"),
    "10,000 brackets": (header("(" * 9_900), "as numpy.save writes"),
    "Python 2's numbers": (header(of(shape="(1L, 2L, 3L, 4L)")), "as numpy.save writes"),
    "a shape of truths": (header(of(shape=(True, 2, 3, 4))), "as numpy.save writes"),
    "a shape below 0": (header(of(shape=(1, -2, 3, 4))), "as numpy.save writes"),
    "5,000 digits": (header(of(shape=f"(1, {'9' * 5_000}, 3, 4)")), "as numpy.save writes"),
    "hexadecimal digits": (header(of(shape=f"(1, 0x{'f' * 5_000}, 3, 4)")), "as numpy.save writes"),
    "1,000 axes": (header(of(shape="(" + "1, " * 1_000 + ")")), "as numpy.save writes"),
    "fields": (header(of(dtype=[("a", "<f4")])), "as numpy.save writes"),
    "keys of several kinds": (header("{1: 2, 'a': 3, (): 4}"), "as numpy.save writes"),
    "keys that are none": (header("{[]: 1}"), "as numpy.save writes"),
    "no such dtype": (header(of(dtype="'<f7'")), "names <f7, which is no dtype"),
    "an old name of a dtype": (header(of(dtype="'|a5'")), "as numpy.save writes"),
    "null bytes": (header(of().replace(",", "\0")), "as numpy.save writes"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("error")
def test_whatever_else_is_refused_without_room_for_it(name: str) -> None:
    """Many of these made numpy's reader raise SyntaxError, tokenize's or memory's errors, or warn."""
    content, words = WRONG[name]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=words):
            read_header(io.BytesIO(content))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
