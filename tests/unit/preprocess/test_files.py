import hashlib
from pathlib import Path

import numpy as np
import pytest

from preprocess.files import NpyStream, exclusive, file_md5, npy_descr, remove_temporaries, whole_file


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
def test_a_stream_has_the_bytes_of_numpy_save(tmp_path: Path, dtype: type) -> None:
    array = np.arange(2 * 3 * 5 * 7).astype(dtype).reshape(1, 6, 5, 7)
    np.save(tmp_path / "expected.npy", array)
    with whole_file(tmp_path / "ours.npy") as file:
        stream = NpyStream(file, array.shape, dtype)
        for slab in array[0]:
            stream.append(np.asfortranarray(slab))
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()
    assert stream.md5 == hashlib.md5((tmp_path / "expected.npy").read_bytes()).hexdigest()
    assert stream.md5 == file_md5(tmp_path / "ours.npy")
    assert npy_descr(tmp_path / "ours.npy") == np.dtype(dtype).str


@pytest.mark.parametrize(
    "body", [None, b"", b"x" * 200, b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00v\x00{'descr': (" + b" " * 99]
)
def test_what_has_no_header_has_no_dtype(tmp_path: Path, body: bytes | None) -> None:
    if body is not None:
        (tmp_path / "x.npy").write_bytes(body)
    assert npy_descr(tmp_path / "x.npy") is None


def test_a_stream_refuses_another_dtype(tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file, pytest.raises(TypeError, match="float32"):
        NpyStream(file, (1, 2), np.float32).append(np.zeros(2))


def test_a_name_appears_only_when_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with whole_file(path) as file:
        file.write(b"new")
        assert not path.exists()
        assert len(list(tmp_path.glob("x.npy.*.part"))) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]
    assert path.read_bytes() == b"new"


def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with whole_file(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_only_temporaries_are_removed(tmp_path: Path) -> None:
    for name in ("a.npy", "a.npy.1.part", "manifest.json.2.part", "part"):
        (tmp_path / name).write_bytes(b"")
    assert remove_temporaries(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "part"]


def test_a_run_begins_and_ends_without_temporaries(tmp_path: Path) -> None:
    old, new = tmp_path / "a.npy.1.part", tmp_path / "b.npy.2.part"
    old.write_bytes(b"")
    with exclusive(tmp_path):
        assert not old.exists()  # its space is free for what is written now
        new.write_bytes(b"")
    assert not new.exists()
