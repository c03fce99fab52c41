"""The model beside what was published."""

from dataclasses import replace

import pytest

from benchmark.scale import published
from benchmark.scale.check import CASES, Checked, as_values, checked
from benchmark.scale.show import summary
from benchmark.scale.step_time import fixed_share, spatial_seconds


@pytest.fixture(scope="module")
def found() -> dict[str, Checked]:
    return {each.case.run.source: each for each in checked("4.0.0")}


def test_it_comes_as_close_as_the_record_says(found: dict[str, Checked]) -> None:
    nine, ninety_six = found[published.H100_V40_9.source], found[published.H100_V31_96.source]
    assert nine.rate_error == pytest.approx(-0.017, abs=0.001)
    assert ninety_six.rate_error == pytest.approx(0.067, abs=0.001)
    for one in (published.H100_V40, published.H200_V40, published.A100_V20):
        assert found[one.source].rate_error is None
        assert abs(found[one.source].minutes_error) < 0.01
    assert nine.minutes_error == pytest.approx(-0.060, abs=0.001)
    assert nine.own_minutes_error == pytest.approx(0.005, abs=0.001)
    assert ninety_six.minutes_error == pytest.approx(-0.141, abs=0.001)


def test_no_constant_is_taken_from_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {case.run.source for case in CASES if not case.taken}
    constants = fixed_share(), spatial_seconds()
    for name, run in vars(published).copy().items():
        if isinstance(run, published.PublishedRun) and run.source in counted:
            other = replace(run, images_per_s=3 * run.images_per_s, minutes=1.0, samples=1.0)
            monkeypatch.setattr(published, name, other)
    assert published.H100_V40.minutes == 1.0
    assert (fixed_share.__wrapped__(), spatial_seconds.__wrapped__()) == constants


def test_runs_that_gave_constants_are_met_exactly(found: dict[str, Checked]) -> None:
    taken = [each for each in found.values() if each.case.taken]
    assert {each.case.run.source.split()[0] for each in taken} == {"v2.1", "v3.0"}
    for each in taken:
        assert each.prediction.images_per_s == pytest.approx(each.case.run.images_per_s)


def test_the_summary_leaves_out_what_constants_are_taken_from(found: dict[str, Checked]) -> None:
    assert summary(list(found.values())).startswith("errors: images/s -3.4 % to +20.7 %; minutes -14.1 %")


def test_a_record_says_what_counts(found: dict[str, Checked]) -> None:
    values = as_values(found[published.H100_V30_54.source])
    assert (values["counts"], values["published"]["images_per_s"]) == (False, 9461.7)
    assert values["errors"]["minutes"] == pytest.approx(-0.018, abs=0.001)
    assert as_values(found[published.H100_V40.source])["errors"]["images_per_s"] is None
