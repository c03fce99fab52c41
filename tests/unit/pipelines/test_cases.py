import itertools
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.base import Position, Shard
from pipelines.cases import Case, Schedule, balance, cases_of, epoch_order, find_cases, split
from pipelines.errors import DataError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_cases_are_found_in_order_of_their_names(tmp_path: Path) -> None:
    touch(
        tmp_path, "case_00010_y.npy", "case_00010_x.npy", "case_00002_x.npy", "case_00002_y.npy", "readme.txt"
    )
    first, second = find_cases(tmp_path)
    assert first == Case("case_00002", 2, tmp_path / "case_00002_x.npy", tmp_path / "case_00002_y.npy")
    assert (second.name, second.id) == ("case_00010", 10)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no case_"),
        (("case_00001_x.npy",), r"case_00001_x.npy has no case_00001_y.npy"),
        (
            ("case_00001_x.npy", "case_00001_y.npy", "case_00007_y.npy"),
            r"case_00007_y.npy has no case_00007_x",
        ),
    ],
)
def test_incomplete_folders_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        find_cases(touch(tmp_path, *names))
    assert str(tmp_path) in str(caught.value)
    assert "preprocess" in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent is not a folder"):
        find_cases(tmp_path / "absent")


def test_split_follows_the_ids(tmp_path: Path) -> None:
    cases = [Case(f"case_{i:05d}", i, tmp_path, tmp_path) for i in range(5)]
    training, evaluation = split(cases, frozenset({1, 3, 99}))
    assert [case.id for case in training] == [0, 2, 4]
    assert [case.id for case in evaluation] == [1, 3]


@given(st.integers(1, 300), st.integers(0, 2**63 - 1), st.integers(1, 10_000))
def test_an_epoch_order_is_a_permutation(cases: int, seed: int, epoch: int) -> None:
    assert sorted(epoch_order(cases, seed, epoch)) == list(range(cases))


def test_every_epoch_and_seed_has_its_own_order() -> None:
    orders = {epoch_order(168, seed, epoch) for seed in range(5) for epoch in range(1, 21)}
    assert len(orders) == 100


def test_every_case_comes_first_equally_often() -> None:
    first = [epoch_order(8, 0, epoch)[0] for epoch in range(1, 4001)]
    counts = [first.count(case) for case in range(8)]
    # Chi-square with 7 degrees of freedom: 24.3 is its 99.9 % quantile.
    assert sum((n - 500) ** 2 / 500 for n in counts) < 24.3


def make(
    cases: int,
    world: int,
    rank: int = 0,
    batch: int = 1,
    ga: int = 1,
    last: str = "drop",
    sharding: str = "global",
) -> Schedule:
    return Schedule(
        num_cases=cases,
        shard=Shard(rank, world),
        batch_size=batch,
        ga_steps=ga,
        last_batch=last,  # type: ignore[arg-type]
        seed=11,
        sharding=sharding,  # type: ignore[arg-type]
    )


sizes = st.tuples(st.integers(1, 60), st.sampled_from([1, 2, 3, 5, 8]), st.integers(1, 4), st.integers(1, 3))


@given(sizes, st.sampled_from(["drop", "pad"]), st.integers(1, 50))
def test_ranks_share_an_epoch_as_the_policy_says(sizes: tuple[int, ...], last: str, epoch: int) -> None:
    cases, world, batch, ga = sizes
    per_step = world * batch * ga
    if last == "drop" and cases < per_step:
        with pytest.raises(
            DataError, match=rf"{cases} training cases .* {per_step} samples.*--last_batch pad"
        ):
            make(cases, world, 0, batch, ga, last)
        return
    ranks = [make(cases, world, rank, batch, ga, last) for rank in range(world)]
    steps = [list(itertools.islice(r.steps(Position(epoch)), r.steps_per_epoch)) for r in ranks]
    seen = [p for of_rank in steps for step in of_rank for p in step.positions]
    whole = cases // per_step if last == "drop" else -(-cases // per_step)
    assert ranks[0].steps_per_epoch == whole * ga
    assert sorted(seen) == list(range(whole * per_step)) == list(range(ranks[0].samples_per_epoch))
    order = epoch_order(cases, 11, epoch)
    for step in itertools.chain.from_iterable(steps):
        assert step.epoch == epoch
        assert step.cases == tuple(order[p % cases] for p in step.positions)
    if last == "drop":
        drawn = [c for of_rank in steps for step in of_rank for c in step.cases]
        assert len(drawn) == len(set(drawn)), "no case twice in an epoch, on whatever rank"


@given(sizes, st.data())
def test_many_ranks_consume_what_one_rank_would(sizes: tuple[int, ...], data: st.DataObject) -> None:
    cases, world, batch, ga = sizes
    one = make(cases, 1, 0, world * batch, ga, "pad")
    ranks = [make(cases, world, rank, batch, ga, "pad") for rank in range(world)]
    start = Position(data.draw(st.integers(1, 5)), data.draw(st.integers(0, one.steps_per_epoch)))
    streams = [rank.steps(start) for rank in ranks]
    for step in itertools.islice(one.steps(start), 2 * one.steps_per_epoch + 1):
        parts = [next(stream) for stream in streams]
        assert step.cases == tuple(c for part in parts for c in part.cases)
        assert step.positions == tuple(p for part in parts for p in part.positions)


@given(sizes, st.sampled_from(["drop", "pad"]), st.integers(1, 50))
def test_static_shards_are_disjoint_and_each_rank_sees_its_own(
    sizes: tuple[int, ...], last: str, epoch: int
) -> None:
    cases, world, batch, ga = sizes
    assume(cases >= world and (last == "pad" or cases >= world * batch * ga))
    shares = [cases_of(Shard(rank, world), cases, 11, "static") for rank in range(world)]
    assert sorted(case for share in shares for case in share) == list(range(cases))
    places = []
    for rank, share in enumerate(shares):
        schedule = make(cases, world, rank, batch, ga, last, "static")
        assert schedule.steps_per_epoch == make(cases, world, rank, batch, ga, last).steps_per_epoch
        steps = list(itertools.islice(schedule.steps(Position(epoch)), schedule.steps_per_epoch))
        seen = [case for step in steps for case in step.cases]
        places += [place for step in steps for place in step.positions]
        assert set(seen) <= set(share)
        # Each as often as any other, as far as the number of steps allows.
        counts = [seen.count(case) for case in share]
        assert max(counts) - min(counts) <= 1
        assert last == "pad" or max(counts) <= 1
    # No two samples of an epoch are drawn with the same counter, on whatever rank.
    assert sorted(places) == list(range(len(places)))


def test_static_shards_are_dealt_by_the_seed_and_ordered_anew_each_epoch() -> None:
    assert len({cases_of(Shard(0, 4), 40, seed, "static") for seed in range(20)}) == 20
    schedule = make(40, 4, batch=5, sharding="static")
    steps = list(itertools.islice(schedule.steps(Position()), 2 * schedule.steps_per_epoch))
    first, second = steps[:2], steps[2:]
    assert [step.cases for step in first] != [step.cases for step in second]
    assert {c for step in first for c in step.cases} == {c for step in second for c in step.cases}


def test_static_shards_need_a_case_for_every_rank() -> None:
    with pytest.raises(DataError, match="--sharding static: 3 training cases for 4 ranks"):
        make(3, 4, last="pad", sharding="static")
    assert make(3, 4, last="pad").steps_per_epoch == 1


@given(sizes, st.integers(0, 40))
def test_a_stream_resumes_where_it_was_left(sizes: tuple[int, ...], done: int) -> None:
    schedule = make(sizes[0], sizes[1], 0, sizes[2], sizes[3], "pad")
    epoch, step = divmod(done, schedule.steps_per_epoch)
    whole = itertools.islice(schedule.steps(Position()), done, done + 10)
    assert list(itertools.islice(schedule.steps(Position(1 + epoch, step)), 10)) == list(whole)


def test_the_end_of_an_epoch_is_the_start_of_the_next() -> None:
    schedule = make(10, 1, batch=2)
    assert next(schedule.steps(Position(3, 5))) == next(schedule.steps(Position(4, 0)))
    with pytest.raises(DataError, match="step 6 is outside an epoch of 5 steps"):
        next(schedule.steps(Position(3, 6)))


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(DataError, match="no training case"):
        make(0, 1, last="pad")
    with pytest.raises(DataError, match="--last_batch keep is not one of drop, pad"):
        make(10, 1, last="keep")


@given(st.lists(st.integers(1, 1000), max_size=60), st.integers(1, 8))
def test_balance_shares_every_item_once_and_evenly(costs: list[int], world: int) -> None:
    shares = balance(costs, world)
    assert sorted(i for share in shares for i in share) == list(range(len(costs)))
    loads = [sum(costs[i] for i in share) for share in shares]
    # No rank could hand its smallest item to another and be better off.
    assert all(
        load - min((costs[i] for i in share), default=0) <= min(loads)
        for load, share in zip(loads, shares, strict=True)
    )


def test_balance_of_equal_cases_is_even_in_number() -> None:
    assert sorted(len(share) for share in balance([1] * 42, 8)) == [5] * 6 + [6] * 2
