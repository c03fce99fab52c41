"""Known delays in, a profile out: does it say where they are?"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmark.calibrate.doubles import DelayedSubject, Delays
from benchmark.profile.phases import Lengths
from benchmark.profile.session import Course, Rounds
from benchmark.profile.summary import Context, results
from preprocess.machine import usable_cpus
from preprocess.phantom import phantom_ids
from preprocess.phantom_case import PhantomTask, write_preprocessed
from runtime.arguments import parse_arguments
from runtime.distributed_utils import World

RELATIVE, ABSOLUTE_MS = 0.1, 2.0
"""What a part may be off: the larger of the two."""

MOST_ATTEMPTS = 8
"""At a trial that fails. Other work on the machine spoils one for seconds on end, and then several in a row;
an instrument that is wrong is so in all of them."""

_STEPS = 40
_CASES = 8
_EDGE = 32
"""Voxels of a patch's edge: its real work takes well under a millisecond."""


class _Silent(World):
    def say(self, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Trial:
    """Delays, and the verdict on them."""

    delays: Delays
    verdict: str


TRIALS = {
    "compute 40 ms": Trial(Delays(compute=40), "compute-bound"),
    "fetch 20 ms, compute 5": Trial(Delays(fetch=20, compute=5), "fetch-bound"),
    "prep 15 ms, compute 5": Trial(Delays(prep=15, compute=5), "prep-bound"),
    "transfer 10 ms, compute 5": Trial(Delays(transfer=10, compute=5), "transfer-bound"),
    "fetch 20 ms behind compute 40": Trial(Delays(fetch=20, compute=40), "compute-bound"),
    "fetch 20 and prep 15 ms behind compute 40": Trial(
        Delays(fetch=20, prep=15, compute=40), "compute-bound"
    ),
    "fetch 20 and prep 15 ms, compute 5": Trial(Delays(fetch=20, prep=15, compute=5), "fetch-bound"),
    "fetch 5 and prep 15 ms, compute 5": Trial(Delays(fetch=5, prep=15, compute=5), "prep-bound"),
    "prep 15 and transfer 10 ms, compute 5": Trial(Delays(prep=15, transfer=10, compute=5), "transfer-bound"),
    "fetch 20, prep 15, transfer 10, compute 40 ms": Trial(
        Delays(fetch=20, prep=15, transfer=10, compute=40), "transfer-bound"
    ),
    "fetch 60 and prep 20 ms, compute 40": Trial(Delays(fetch=60, prep=20, compute=40), "fetch-bound"),
    "prep 5 ms behind compute 40: 8 x headroom": Trial(Delays(prep=5, compute=40), "compute-bound"),
    "contention 10 ms on compute 40": Trial(Delays(contention=10, compute=40), "contention-bound"),
}


@dataclass(frozen=True)
class Attribution:
    """What the profile said of a trial, in milliseconds for a step."""

    name: str
    verdict: str
    expected: str
    parts: dict[str, tuple[float, float]]
    """For each kind of delay, and the whole step: what was put in, and what was found beyond the pipeline's
    own time."""
    attempts: int = 1
    """How often it was measured: others on the machine may spoil a trial, but not each time."""

    @property
    def wrong(self) -> list[str]:
        """What is not as it should be, in words."""
        found = [
            f"{part}: {measured:.1f} ms for {given:.1f}"
            for part, (given, measured) in self.parts.items()
            if abs(measured - given) > max(RELATIVE * given, ABSOLUTE_MS)
        ]
        if self.verdict != self.expected:
            found.append(f"{self.verdict}, expected {self.expected}")
        return found


def attributions(names: list[str] | None = None) -> Iterator[Attribution]:
    """Profiles of the trials, one after the other, on small phantoms in a temporary folder.

    The real work in them is a fraction of a millisecond on one thread; more would wait for each other.
    """
    with TemporaryDirectory(prefix="voxelrate-calibration-") as folder, _one_thread():
        data = Path(folder)
        for case_id in phantom_ids(_CASES):
            write_preprocessed(
                PhantomTask(data, case_id, seed=0, profile="tiny", preprocessed=True, shape=(_EDGE,) * 3)
            )
        own = _profile(data, Delays())
        for name in names or TRIALS:
            found = _attribution(name, TRIALS[name], _profile(data, TRIALS[name].delays), own)
            while found.wrong and found.attempts < MOST_ATTEMPTS:
                own = _profile(data, Delays())
                again = _attribution(name, TRIALS[name], _profile(data, TRIALS[name].delays), own)
                found = replace(again, attempts=found.attempts + 1)
            yield found


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def expected_step_ms(delays: Delays, own: dict[str, Any]) -> float:
    """A step with one worker: the longer of what the worker and what the step's own process do."""
    return max(_sides_ms(delays, own))


def _sides_ms(delays: Delays, own: dict[str, Any]) -> tuple[float, float]:
    """What a batch takes its worker, and what a step takes its own process, waits for the worker aside."""
    services = own["service_ms"]
    worker = delays.fetch + delays.prep + services["fetch"] + services["prep"]
    return worker, delays.transfer + delays.compute + delays.contention + own["breakdown_ms"]["compute"]


def _attribution(name: str, trial: Trial, found: dict[str, Any], own: dict[str, Any]) -> Attribution:
    delays, parts = trial.delays, {}
    for part in ("fetch", "prep", "transfer"):
        parts[part] = (getattr(delays, part), found["service_ms"][part] - own["service_ms"][part])
    computing, own_computing = (_mean_step_ms(values, "step") for values in (found, own))
    parts["compute"] = (delays.compute, computing - own_computing)
    parts["contention"] = (
        delays.contention,
        found["breakdown_ms"]["contention"] - own["breakdown_ms"]["contention"],
    )
    waits = found["breakdown_ms"]
    parts["wait for transfer"] = (delays.transfer, waits["transfer"] - own["breakdown_ms"]["transfer"])
    worker, consumer = _sides_ms(delays, own)
    parts["wait for workers"] = (max(0.0, worker - consumer), waits["fetch"] + waits["prep"])
    parts["step"] = (expected_step_ms(delays, own), _mean_step_ms(found, "both"))
    return Attribution(name, found["verdict"]["name"], trial.verdict, parts)


def _mean_step_ms(found: dict[str, Any], arm: str) -> float:
    rate = found["rates"][arm]
    return 1000 * rate["window_s"] / rate["steps"]


def _profile(data: Path, delays: Delays) -> dict[str, Any]:
    """Findings of one round with one worker."""
    edge = [str(_EDGE)] * 3
    config = parse_arguments(
        ["--data_dir", str(data), "--batch_size", "1", "--num_workers", "1", "--seed", "0",
         "--filters", "4", "8", "--input_shape", *edge, "--val_input_shape", *edge]
    )  # fmt: skip
    world = _Silent(torch.device("cpu"))
    subject = DelayedSubject(config, world)
    subject.delays = delays
    queue = config.loader.prefetch
    lengths = Lengths(seconds=1.0, warmup_steps=2 * queue + 2, min_steps=_STEPS, steps=_STEPS)
    course = Course(rounds=1, lengths=lengths, cold=False, warm=False, files=(), queue=queue, process=0)
    rounds = Rounds(subject, course, say=lambda text: None)
    rounds.run()
    context = Context(
        description=rounds.description,
        loader="pytorch",
        step="voxelrate",
        emulated=None,
        batch_size=1,
        ga_steps=1,
        world_size=1,
        images_per_step=1,
        patch=[_EDGE, _EDGE, _EDGE],
        patch_bytes=5 * _EDGE**3,
        device="cpu",
        data_cache="none",
        workers=1,
        usable_cpus=usable_cpus(),
        queue_batches=queue,
        data_bytes=None,
        memory_bytes=0,
        rounds=1,
    )
    found: dict[str, Any] = results(context, rounds.phases, [])["findings"]
    return found
