import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.bad_cases import Ledger, Met, Substitutes
from pipelines.base import BadCase
from pipelines.errors import CaseError, DataError

NAMES = [f"case_{number:05d}" for number in range(12)]


def make(bad: set[int]) -> object:
    def of(case: int) -> int:
        if case in bad:
            raise CaseError(f"{NAMES[case]} is broken")
        return case * 10

    return of


@given(st.sets(st.integers(0, 11), min_size=1), st.sets(st.integers(0, 11)), st.data())
def test_the_next_of_the_own_cases_stands_in(own: set[int], bad: set[int], data: st.DataObject) -> None:
    cases = sorted(own)
    case = data.draw(st.sampled_from(cases))
    substitutes = Substitutes(NAMES, cases, "skip")
    turned = cases[cases.index(case) :] + cases[: cases.index(case)]
    good = [candidate for candidate in turned if candidate not in bad]
    if not good:
        with pytest.raises(DataError, match=f"no good case left: all {len(cases)} training cases") as caught:
            substitutes.first_good(case, make(bad))  # type: ignore[arg-type]
        assert str(caught.value).endswith(f"{NAMES[case]}: {NAMES[case]} is broken")
        return
    found = substitutes.first_good(case, make(bad))  # type: ignore[arg-type]
    before = turned[: turned.index(good[0])]
    met = tuple(Met(NAMES[one], f"{NAMES[one]} is broken") for one in before)
    assert found == (good[0], good[0] * 10, met)


def test_stop_raises_what_is_wrong_with_the_case_itself() -> None:
    with pytest.raises(CaseError, match="^case_00003 is broken$"):
        Substitutes(NAMES, range(12), "stop").first_good(3, make({3}))  # type: ignore[arg-type]


def test_other_faults_are_not_the_cases() -> None:
    def without_library(case: int) -> int:
        raise DataError("cc3d is not installed")

    with pytest.raises(DataError, match="^cc3d is not installed$"):
        Substitutes(NAMES, range(12), "skip").first_good(3, without_library)


def test_samples_are_counted_for_the_case_that_was_scheduled() -> None:
    ledger = Ledger()
    assert ledger.cases == ()
    three, four = Met("case_00003", "gone"), Met("case_00004", "not finite")
    ledger.add([(), (three,), (three, four)])
    assert ledger.cases == (BadCase("case_00003", "gone", 2), BadCase("case_00004", "not finite", 0))
    ledger.add([(four,), (Met("case_00003", "back, but torn"),)])
    # The reason is the first one; the sum is the number of samples replaced.
    assert ledger.cases == (BadCase("case_00003", "gone", 3), BadCase("case_00004", "not finite", 1))
