import ctypes
import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import file_mapping
from pipelines.draw import CropWindow
from pipelines.errors import DataError
from pipelines.volume_reader import MappedVolume

SHAPE = (7, 9, 11)


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def image(shape: tuple[int, ...] = (1, *SHAPE)) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@given(data=st.data())
@settings(max_examples=60)
def test_windows_are_those_of_numpy(
    dtype: type, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 12)] * 3))
    array = (image((1, *shape)) * 100).astype(dtype)
    path = save(tmp_path_factory.mktemp("volume") / "case_00000_x.npy", array)
    volume = MappedVolume(path, dtype)
    assert volume.shape == shape
    np.testing.assert_array_equal(volume.whole()[0], np.load(path)[0])
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    size = tuple(data.draw(st.integers(1, n - a)) for n, a in zip(shape, start, strict=True))
    expected = np.load(path)[0][tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))]
    np.testing.assert_array_equal(volume.window(CropWindow(start, size))[0], expected)


def test_a_window_asks_for_its_bands_only(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", image((1, 20, 64, 64)))
    volume = MappedVolume(path, np.float32)
    _, bytes_read = volume.window(CropWindow((5, 16, 3), (10, 16, 16)))
    # Ten bands of 15 rows of 256 bytes and 64 bytes: less than 4 KiB each, on one or two pages.
    assert 10 * 4096 <= bytes_read <= 20 * 4096
    _, bytes_read = volume.whole()
    assert path.stat().st_size - 4096 < bytes_read <= path.stat().st_size + 4096


def test_views_are_read_only_and_outlive_the_volume(tmp_path: Path) -> None:
    array = image()
    volume = MappedVolume(save(tmp_path / "v.npy", array), np.float32)
    view, _ = volume.window(CropWindow((1, 1, 1), (3, 3, 3)))
    del volume
    np.testing.assert_array_equal(view, array[0, 1:4, 1:4, 1:4])
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0, 0] = 1


def test_memory_goes_back_with_the_last_view(tmp_path: Path) -> None:
    path = save(tmp_path / "mapped_once.npy", image())
    volume = MappedVolume(path, np.float32)
    view, _ = volume.whole()
    maps = Path("/proc/self/maps")
    assert path.name in maps.read_text()
    del volume
    assert path.name in maps.read_text()
    del view
    assert path.name not in maps.read_text()


def test_open_volumes_hold_no_descriptor(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", image())
    before = len(os.listdir("/proc/self/fd"))
    volumes = [MappedVolume(path, np.float32) for _ in range(50)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(volumes) == 50


def test_a_replaced_file_is_still_the_one_that_was_opened(tmp_path: Path) -> None:
    path, array = tmp_path / "v.npy", image()
    volume = MappedVolume(save(path, array), np.float32)
    save(tmp_path / "new.npy", image((1, 2, 2, 2))).replace(path)
    np.testing.assert_array_equal(volume.whole()[0], array[0])


def test_a_pickled_volume_reads_the_same_file(tmp_path: Path) -> None:
    volume = pickle.loads(pickle.dumps(MappedVolume(save(tmp_path / "v.npy", image()), np.float32)))  # noqa: S301
    np.testing.assert_array_equal(volume.whole()[0], image()[0])


def test_a_window_beyond_the_volume_is_refused(tmp_path: Path) -> None:
    volume = MappedVolume(save(tmp_path / "v.npy", image()), np.float32)
    with pytest.raises(DataError, match=r"beyond .*v\.npy of shape \(7, 9, 11\)"):
        volume.window(CropWindow((5, 0, 0), (3, 9, 11)))


MALFORMED = {
    "absent": (None, "cannot read .*No such file"),
    "empty": (b"", "not a .npy file"),
    "text": (b"hello, this is no array at all", "not a .npy file"),
    "truncated": (lambda raw: raw[:-1], "has 2899 bytes, expected 2900"),
    "header cut": (lambda raw: raw[:50], "not a .npy file"),
    "garbage behind": (lambda raw: raw + b"x", "has 2901 bytes, expected 2900"),
    "version 3": (lambda raw: raw[:6] + b"\x03" + raw[7:], r"version \(3, 0\)"),
    "not a header": (lambda raw: raw.replace(b"'shape'", b"'shope'"), "not a .npy file"),
    "code in the header": (lambda raw: raw.replace(b"(1, 7, 9, 11)", b"exit(        )"), "not a .npy file"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files_are_refused(name: str, tmp_path: Path) -> None:
    content, message = MALFORMED[name]
    path = save(tmp_path / "case_00007_x.npy", image())
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)
    with pytest.raises(DataError, match=message) as caught:
        MappedVolume(path, np.float32)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (image().astype(np.float64), "holds float64, expected float32"),
        (image().astype(">f4"), "holds >f4, expected float32"),
        (image().astype(np.uint8), "holds uint8, expected float32"),
        (np.asfortranarray(image()), "Fortran order"),
        (image()[0], r"shape \(7, 9, 11\), expected \(1, D, H, W\)"),
        (np.concatenate([image()] * 2), r"shape \(2, 7, 9, 11\), expected"),
        (image((1, 7, 0, 11)), r"shape \(1, 7, 0, 11\), expected"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", array)
    with pytest.raises(DataError, match=message) as caught:
        MappedVolume(path, np.float32)
    assert str(path) in str(caught.value)
    assert "preprocess this case again" in str(caught.value)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, np.array([[[[{"a": 1}]]]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="holds object, expected float32"):
        MappedVolume(path, np.float32)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(DataError, match=r"cannot read .*pipe.npy: no regular file"):
        MappedVolume(tmp_path / "pipe.npy", np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_one_of_several_dtypes_is_taken(dtype: type, tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", image().astype(dtype))
    volume = MappedVolume(path, np.float32, np.float16)
    assert volume.dtype == dtype
    np.testing.assert_array_equal(volume.whole()[0], image()[0].astype(dtype))
    save(path, image().astype(np.int16))
    with pytest.raises(DataError, match="holds int16, expected float32 or float16"):
        MappedVolume(path, np.float32, np.float16)


def test_a_file_that_shrinks_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", image((1, 20, 64, 64)))
    volume = MappedVolume(path, np.float32)
    os.truncate(path, 200_000)
    for read in (volume.whole, lambda: volume.window(CropWindow((15, 0, 0), (5, 64, 64)))):
        with pytest.raises(DataError, match=r"v\.npy shrank from 327808 to 200000 bytes"):
            read()


def test_a_file_that_was_written_to_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", image())
    volume = MappedVolume(path, np.float32)
    assert volume.is_current()
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=r"v\.npy grew from 2900 to 2904 bytes during the run: preprocess"):
        volume.window(CropWindow((0, 0, 0), (1, 1, 1)))
    save(path, image())
    assert not volume.is_current()
    with pytest.raises(DataError, match=r"v\.npy was written to during the run: preprocess"):
        volume.whole()


@pytest.mark.parametrize("name", ["gone", "another file"])
def test_a_file_that_shrank_before_its_name_went_does_not_end_the_process(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "v.npy", image((1, 20, 64, 64)))
    volume = MappedVolume(path, np.float32)
    other = save(tmp_path / "w.npy", image((1, 20, 64, 64)))
    os.truncate(path, 200_000)
    if name == "gone":
        path.unlink()
    else:
        other.replace(path)
    assert not volume.is_current()
    with pytest.raises(DataError, match=r"v\.npy shrank and was then replaced during the run"):
        volume.whole()


def test_where_the_kernel_does_not_tell_what_was_opened_is_taken_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def process_vm_readv(self, *arguments: object) -> int:
            ctypes.set_errno(errno.EPERM)
            return -1

    path, array = tmp_path / "v.npy", image()
    volume = MappedVolume(save(path, array), np.float32)
    path.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(file_mapping, "_libc", Refusing())
        volume.check()
    np.testing.assert_array_equal(volume.whole()[0], array[0])


def test_without_a_descriptor_to_spare_reading_ahead_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    volume = MappedVolume(save(tmp_path / "v.npy", image()), np.float32)
    monkeypatch.setattr(os, "pidfd_open", none_left)
    np.testing.assert_array_equal(volume.window(CropWindow((0, 0, 0), SHAPE))[0], image()[0])


def test_a_kernel_that_refuses_the_one_call_is_asked_range_by_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Refusing:
        def syscall(self, *arguments: object) -> int:
            return -1

        def madvise(self, begin: int, length: int, advice: int) -> int:
            asked.append((begin, length))
            return 0

    volume = MappedVolume(save(tmp_path / "v.npy", image((1, 20, 64, 64))), np.float32)
    monkeypatch.setattr(file_mapping, "_libc", Refusing())
    _, bytes_read = volume.window(CropWindow((5, 16, 3), (10, 16, 16)))
    assert len(asked) == 10
    assert sum(-(-length // 4096) for _, length in asked) * 4096 == bytes_read
