"""What holds for every schedule, for any number of ranks: who reads what, and from where on."""

import itertools
from collections import Counter
from typing import get_args

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.base import Position, Shard
from pipelines.cases import LastBatch, Schedule, Sharding, Step

worlds = st.sampled_from([1, 2, 3, 5])


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Schedule, ...]:
    """Those of all ranks of a run."""
    world = draw(worlds)
    settings = {
        "num_cases": draw(st.integers(1, 60)),
        "batch_size": draw(st.integers(1, 4)),
        "ga_steps": draw(st.integers(1, 3)),
        "last_batch": draw(st.sampled_from(get_args(LastBatch))),
        "seed": draw(st.integers(0, 2**63 - 1)),
        "sharding": draw(st.sampled_from(get_args(Sharding))),
    }
    assume(settings["sharding"] == "global" or settings["num_cases"] >= world)
    per_step = world * settings["batch_size"] * settings["ga_steps"]
    assume(settings["last_batch"] == "pad" or settings["num_cases"] >= per_step)
    return tuple(Schedule(shard=Shard(rank, world), **settings) for rank in range(world))


def epoch_of(schedule: Schedule, epoch: int) -> list[Step]:
    return list(itertools.islice(schedule.steps(Position(epoch)), schedule.steps_per_epoch))


@settings(max_examples=60)
@given(schedules(), st.integers(1, 10_000))
def test_all_ranks_together_visit_an_epoch_once(ranks: tuple[Schedule, ...], epoch: int) -> None:
    steps = [step for rank in ranks for step in epoch_of(rank, epoch)]
    places = sorted(place for step in steps for place in step.positions)
    assert places == list(range(ranks[0].samples_per_epoch))
    if ranks[0].sharding == "global":
        # In the order of the epoch: every case once, before any comes again to fill the last step.
        by_place = {p: c for step in steps for p, c in zip(step.positions, step.cases, strict=True)}
        first = [by_place[place] for place in places[: ranks[0].num_cases]]
        assert len(set(first)) == len(first)
        assert ranks[0].last_batch == "drop" or len(first) == ranks[0].num_cases
    visits = Counter(case for step in steps for case in step.cases)
    left_out = ranks[0].num_cases - len(visits)
    if ranks[0].last_batch == "drop":
        assert left_out < ranks[0].samples_per_step or ranks[0].sharding == "static"
        assert ranks[0].sharding == "static" or set(visits.values()) == {1}
    elif ranks[0].sharding == "global":
        assert left_out == 0


@settings(max_examples=60)
@given(schedules(), st.data())
def test_a_rank_goes_on_anywhere_as_if_it_had_not_stopped(
    ranks: tuple[Schedule, ...], data: st.DataObject
) -> None:
    schedule = data.draw(st.sampled_from(ranks))
    done = data.draw(st.integers(0, 3 * schedule.steps_per_epoch))
    epochs, step = divmod(done, schedule.steps_per_epoch)
    places = [Position(1 + epochs, step)]
    if step == 0 and epochs:
        places.append(
            Position(epochs, schedule.steps_per_epoch)
        )  # the end of an epoch is the next one's start
    whole = list(itertools.islice(schedule.steps(Position()), done, done + 6))
    for place in places:
        assert list(itertools.islice(schedule.steps(place), 6)) == whole


@settings(max_examples=40)
@given(schedules(), st.integers(1, 50))
def test_ranks_are_slices_of_one_rank_with_the_whole_batch(ranks: tuple[Schedule, ...], epoch: int) -> None:
    assume(ranks[0].sharding == "global")
    kept = {"num_cases": ranks[0].num_cases, "seed": ranks[0].seed, "last_batch": ranks[0].last_batch}
    one = Schedule(
        shard=Shard(), batch_size=len(ranks) * ranks[0].batch_size, ga_steps=ranks[0].ga_steps, **kept
    )
    for whole, *parts in zip(epoch_of(one, epoch), *(epoch_of(rank, epoch) for rank in ranks), strict=True):
        assert whole.positions == tuple(itertools.chain.from_iterable(part.positions for part in parts))
        assert whole.cases == tuple(itertools.chain.from_iterable(part.cases for part in parts))
