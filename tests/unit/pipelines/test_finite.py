import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipelines.errors import CaseError
from pipelines.finite import all_finite, check_finite

DTYPES = [np.float32, np.float16]


@given(st.sampled_from(DTYPES), st.data())
def test_it_agrees_with_numpy_on_any_bits(dtype: type, data: st.DataObject) -> None:
    whole = np.dtype(f"u{np.dtype(dtype).itemsize}")
    bits = data.draw(arrays.arrays(whole, st.tuples(*[st.integers(1, 4)] * 3)))
    values = bits.view(dtype)
    assert all_finite(values) == bool(np.isfinite(values).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (7, 6, 5), (3, 3, 3)])
def test_a_single_value_is_found_wherever_it_is(dtype: type, value: float, place: tuple[int, ...]) -> None:
    volume = np.random.default_rng(0).standard_normal((8, 7, 6)).astype(dtype)
    volume[place] = value
    with np.errstate(all="raise"), pytest.raises(CaseError) as caught:
        check_finite(volume, "case_00000_x.npy")
    name = np.dtype(dtype).name
    assert str(caught.value) == (
        f"case_00000_x.npy holds values that are not finite as {name}: preprocess this case again"
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_greatest_and_the_least_values_are_finite(dtype: type) -> None:
    limits = np.finfo(dtype)
    values = [limits.max, limits.min, limits.tiny, limits.smallest_subnormal, -0.0]
    # Their squares overflow.
    volume = np.array(values * 20, dtype).reshape(4, 5, 5)
    with np.errstate(all="raise"):
        check_finite(volume, "volume")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_patch_costs_about_as_much_as_its_copy(dtype: type) -> None:
    patch = np.zeros((128, 128, 128), dtype)
    out = np.empty_like(patch)

    def best(act: object) -> float:
        times = []
        for _ in range(15):
            begin = time.perf_counter()
            act()  # type: ignore[operator]
            times.append(time.perf_counter() - begin)
        return min(times)

    assert best(lambda: all_finite(patch)) < best(lambda: np.copyto(out, patch)) * 5
