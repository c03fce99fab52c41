"""Measures contenders side by side: memory once, rates in interleaved rounds, cold reads once."""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark.peers import fresh
from benchmark.peers.contender import Settings
from benchmark.peers.contenders import CONTENDERS
from benchmark.process_tree import TreeMemory
from benchmark.residency import drop, resident_bytes, warm
from pipelines.cases import Case
from preprocess.spec import evaluation_ids

METHOD = (
    "Contenders take turns in alternating order (A B C, C B A, ...), each time in a fresh process, after "
    "its own files were read into the page cache. A process consumes batches for warmup_s seconds and then "
    "counts images for at least seconds: images/s = N / (t_end - t_start), both taken at the arrival of a "
    "batch. Nothing is done with a batch, except that it is copied to the GPU where there is one. All read "
    "the same training cases with the same batch size, patch, number of workers (processes, or threads "
    "where a contender has none), part of foreground-biased crops, and flips, brightness and noise of p = "
    "1/3, 0.1, 0.1 as the reference has them (dali-classic: p = 0.33, and its own brightness and noise). "
    "What a loader finds out once and keeps for the run, it finds mostly before the counting: our boxes of "
    "foreground at the first biased crop of a case, MONAI's cache at the start, nnU-Net's class_locations "
    "in its preprocessing; the reference and dali-classic look at the whole label at each biased crop. "
    "Memory: the largest sum of proportional set sizes over the process tree, read every 50 ms in a run of "
    "its own. "
    "Cold reads: pages of a contender's files that are in the page cache after one patch of each case (as "
    "many cases as fill whole batches), with an empty cache before and nothing read ahead, divided by the "
    "number of patches; the kernel's read-ahead counts."
)


@dataclass(frozen=True, kw_only=True)
class ColdRead:
    """What one pass over the cases brought into the page cache."""

    images: int
    bytes_per_image: float
    asked_bytes_per_image: float | None
    """What the loader itself says, where it does."""


@dataclass(kw_only=True)
class Outcome:
    """What is known of a contender."""

    missing: str | None = None
    """What has to be installed or given."""
    failure: str | None = None
    """Why it failed."""
    notes: list[str] = field(default_factory=list)
    """Why something is missing from what there is to show."""
    images_per_s: list[float] = field(default_factory=list)
    """One for each round."""
    first_batch_s: list[float] = field(default_factory=list)
    """Seconds from the start of the loader to its first batch."""
    cached_part: float = 1.0
    """The smallest part of its files that was in the page cache before a round."""
    peak_pss: int = 0
    peak_kept: int = 0
    """Bytes, with and without pages of files; see ``benchmark.process_tree``."""
    cold: dict[float, ColdRead] = field(default_factory=dict)
    """By oversampling."""

    @property
    def problem(self) -> str | None:
        """Why there is nothing to show."""
        return f"failed: {self.failure}" if self.failure else self.missing


def compare(names: Sequence[str], settings: Settings, rounds: int) -> dict[str, Outcome]:
    """All that there is to know about the contenders ``names``. One that fails does not stop the others.

    Raises:
        DataError: the data set is not one.
    """
    outcomes = {name: Outcome(missing=CONTENDERS[name].missing(settings)) for name in names}
    for name in filter(lambda name: CONTENDERS[name].own_files, _well(outcomes)):
        with _noting(outcomes[name], name):
            _say(f"{name}: converting the volumes, where that is not yet done")
            fresh.run("prepare", name, settings)
    for name in _well(outcomes):
        with _noting(outcomes[name], name):
            tree = TreeMemory()
            fresh.run("rate", name, settings, tree)
            outcomes[name].peak_pss, outcomes[name].peak_kept = tree.peak_pss, tree.peak_kept
            _say(f"{name}: {tree.peak_pss / 2**20:.0f} MiB")
    for turn in range(rounds):
        for name in _well(outcomes)[:: 1 if turn % 2 == 0 else -1]:
            with _noting(outcomes[name], name):
                _round(outcomes[name], name, settings)
                _say(f"round {turn + 1}: {name} {outcomes[name].images_per_s[-1]:.1f} images/s")
    with _whole_batches(settings) as whole:
        for name in _well(outcomes):
            try:
                outcomes[name].cold = _cold_reads(name, whole)
            except (OSError, fresh.ContenderError) as error:
                outcomes[name].notes.append(f"cold reads: {error}")
    return outcomes


def cold_read(name: str, settings: Settings) -> ColdRead:
    """One pass over the cases of ``settings``, which fill whole batches, from an empty page cache.

    Raises:
        ContenderError: the contender failed.
        OSError: the page cache cannot be emptied or seen.
    """
    files = CONTENDERS[name].files(settings)
    drop(files)
    before = resident_bytes(files)
    result = fresh.run("one_pass", name, replace(settings, one_pass=True))
    images, asked = result["images"], result["asked_bytes"]
    return ColdRead(
        images=images,
        bytes_per_image=(resident_bytes(files) - before) / images,
        asked_bytes_per_image=None if asked is None else asked / images,
    )


def _cold_reads(name: str, settings: Settings) -> dict[float, ColdRead]:
    """By oversampling: of ours also without any, where they look at no label but a patch's."""
    found = {}
    windows_alone = CONTENDERS[name].ours and not CONTENDERS[name].keeps_volumes
    for oversampling in sorted({0.0, settings.oversampling} if windows_alone else {settings.oversampling}):
        cold = found[oversampling] = cold_read(name, replace(settings, oversampling=oversampling))
        _say(f"{name}: {cold.bytes_per_image / 1e6:.1f} MB per image, oversampling {oversampling}")
    return found


def _round(outcome: Outcome, name: str, settings: Settings) -> None:
    outcome.cached_part = min(outcome.cached_part, warm(CONTENDERS[name].files(settings)))
    result = fresh.run("rate", name, settings)
    outcome.images_per_s.append(result["images_per_s"])
    outcome.first_batch_s.append(result["first_batch_s"])


def in_whole_batches(settings: Settings) -> tuple[Case, ...]:
    """The training cases but for the last, if they do not fill a batch: those of the cold reads."""
    cases = settings.cases()
    return cases[: len(cases) - len(cases) % settings.batch_size]


@contextmanager
def _whole_batches(settings: Settings) -> Iterator[Settings]:
    """Settings under which the other training cases are left to the evaluation."""
    surplus = {case.id for case in settings.cases()} - {case.id for case in in_whole_batches(settings)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "evaluation_cases.txt"
        ids = sorted({*evaluation_ids(settings.evaluation_cases), *surplus})
        file.write_text("".join(f"{case_id:05}\n" for case_id in ids), encoding="utf-8")
        yield replace(settings, evaluation_cases=file)


def _well(outcomes: Mapping[str, Outcome]) -> list[str]:
    return [name for name, outcome in outcomes.items() if outcome.problem is None]


@contextmanager
def _noting(outcome: Outcome, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, fresh.ContenderError) as error:
        outcome.failure = str(error)
        _say(f"{name} {outcome.problem}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
