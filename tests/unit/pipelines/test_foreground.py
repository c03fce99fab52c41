import itertools
import multiprocessing
import threading
import time
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from pipelines.base import ALONE
from pipelines.draw import Box, Boxes
from pipelines.errors import DataError
from pipelines.foreground import BoxTable, foreground_boxes

BOXES: Boxes = ((Box((1, 2, 3), (4, 5, 6)), Box((7, 8, 9), (10, 11, 12))), (Box((0, 0, 1), (1, 1, 2)),))


def naive(label: np.ndarray) -> Boxes:
    """The reference's rule with scipy, and the tie rule of this project."""
    result = []
    for kind in np.unique(label[label > 0]):
        slices = scipy.ndimage.find_objects(scipy.ndimage.label(label == kind)[0])
        boxes = [Box(tuple(s.start for s in sl), tuple(s.stop for s in sl)) for sl in slices]
        volumes = {b: np.prod(np.subtract(b.stop, b.start)) for b in boxes}
        result.append(tuple(sorted(boxes, key=lambda b: (-volumes[b], b))[:2]))
    return tuple(result)


@given(
    st.tuples(*[st.integers(1, 14)] * 3),
    st.integers(0, 2**32),
    st.floats(0, 0.6),
    st.sampled_from([(1,), (2,), (1, 2)]),
)
def test_boxes_are_those_of_scipy(
    shape: tuple[int, int, int], seed: int, density: float, kinds: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    label = (rng.choice(kinds, shape) * (rng.random(shape) < density)).astype(np.uint8)
    assert foreground_boxes(label) == naive(label)


@pytest.mark.parametrize("shape", list(itertools.product([1, 2, 3], repeat=3)))
def test_boxes_of_thin_foreground_inside_a_volume(shape: tuple[int, int, int]) -> None:
    label = np.zeros((7, 6, 8), dtype=np.uint8)
    label[2 : 2 + shape[0], 1 : 1 + shape[1], 4 : 4 + shape[2]] = 2
    expected = Box((2, 1, 4), (2 + shape[0], 1 + shape[1], 4 + shape[2]))
    assert foreground_boxes(label) == naive(label) == ((expected,),)


def test_boxes_of_large_blobs_in_a_large_volume() -> None:
    grid = np.indices((60, 90, 80))
    label = np.zeros((60, 90, 80), dtype=np.uint8)
    for kind, centre, radius in (
        (1, (20, 30, 20), 12),
        (1, (40, 60, 60), 15),
        (1, (5, 80, 5), 3),
        (2, (22, 34, 25), 6),
    ):
        label[sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < radius**2] = kind
    assert foreground_boxes(label) == naive(label)
    assert [len(boxes) for boxes in foreground_boxes(label)] == [2, 1]


def test_voxels_that_touch_by_an_edge_are_two_components() -> None:
    label = np.zeros((2, 2, 2), dtype=np.uint8)
    label[0, 0, 0] = label[0, 1, 1] = 1
    assert foreground_boxes(label) == ((Box((0, 0, 0), (1, 1, 1)), Box((0, 1, 1), (1, 2, 2))),)


def test_a_label_without_foreground_has_no_boxes() -> None:
    assert foreground_boxes(np.zeros((4, 5, 6), dtype=np.uint8)) == ()


def test_an_unknown_class_is_refused() -> None:
    label = np.zeros((4, 4, 4), dtype=np.uint8)
    label[1, 2, 3] = 3
    with pytest.raises(DataError, match="class 3, expected 0 to 2"):
        foreground_boxes(label)


def never() -> Boxes:
    raise AssertionError("computed although stored")


@pytest.mark.parametrize("boxes", [BOXES, BOXES[:1], BOXES[1:], ()])
def test_a_table_computes_once_and_returns_the_same(boxes: Boxes) -> None:
    table = BoxTable(3, ALONE)
    assert table.get(1, lambda: boxes) == boxes
    assert table.get(1, never) == boxes
    with pytest.raises(AssertionError, match="computed although stored"):
        table.get(2, never)


def test_a_half_written_row_reads_as_empty() -> None:
    table = BoxTable(1, ALONE)
    table.get(0, lambda: BOXES)
    whole = table._block.array(0, (13,), np.int64)
    for column in range(whole.size):
        other = BoxTable(1, ALONE)
        torn = other._block.array(0, (13,), np.int64)
        torn[:] = whole
        torn[column] += 1
        assert other.get(0, lambda: ()) == ()
        assert other.get(0, never) == ()


def store(table: BoxTable, results: Any) -> None:
    results.put((table.get(0, never), table.get(1, lambda: BOXES[1:])))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_share_what_any_of_them_found(method: str) -> None:
    table = BoxTable(2, ALONE)
    table.get(0, lambda: BOXES)
    context = multiprocessing.get_context(method)
    results = context.Queue()
    process = context.Process(target=store, args=(table, results))
    process.start()
    assert results.get(timeout=60) == (BOXES, BOXES[1:])
    process.join()
    assert table.get(1, never) == BOXES[1:]


def slow() -> Boxes:
    time.sleep(0.3)
    return BOXES


def contend(table: BoxTable, results: Any) -> None:
    computed = []
    found = table.get(0, lambda: computed.append(1) or slow())  # type: ignore[func-returns-value]
    results.put((found, len(computed)))


def test_processes_and_threads_that_need_the_same_boxes_at_once_search_one_time() -> None:
    table = BoxTable(1, ALONE)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=contend, args=(table, results)) for _ in range(2)]
    threads = [threading.Thread(target=contend, args=(table, results)) for _ in range(2)]
    for one in (*processes, *threads):
        one.start()
    found = [results.get(timeout=60) for _ in range(4)]
    assert [boxes for boxes, _ in found] == [BOXES] * 4
    assert sum(computed for _, computed in found) == 1
    for one in (*processes, *threads):
        one.join()


def hold(table: BoxTable, started: Any) -> None:
    def never_done() -> Boxes:
        started.set()
        time.sleep(600)
        return ()

    table.get(0, never_done)


def test_the_lock_of_a_killed_process_is_free() -> None:
    table = BoxTable(1, ALONE)
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=hold, args=(table, started))
    process.start()
    assert started.wait(60)
    process.kill()
    process.join()
    assert table.get(0, lambda: BOXES) == BOXES
