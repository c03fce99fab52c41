"""The rules on the data set, judged by its stamp alone."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.config import LoaderConfig
from preprocess.manifest import MANIFEST_NAME
from preprocess.spec import EVAL_SAMPLES, MLPERF_STORAGE_DTYPE, TRAIN_SAMPLES, evaluation_ids
from runtime.preflight.finding import Finding, State, named
from runtime.preflight.stamp import COMMAND, Stamp, place


class Judgement(NamedTuple):
    """What was found, and whether it is legal; ``thought`` is worth one where it is."""

    found: str
    legal: bool
    thought: str = ""


@dataclass(frozen=True)
class NoStamp:
    """Nothing is known about the data set."""

    reason: str
    remedy: str


@dataclass(frozen=True)
class _DataSet:
    """What a run will train on, and what it should be."""

    stamp: Stamp
    table: Mapping[str, str]
    config: LoaderConfig


@dataclass(frozen=True)
class _Rule:
    rule: str
    required: str
    judge: Callable[[_DataSet], Judgement]
    remedy: str
    source: str


def data_findings(stamp: Stamp | NoStamp, table: Mapping[str, str], config: LoaderConfig) -> list[Finding]:
    """The rules on the data set.

    Args:
        stamp: What is known about it; without one every rule is off.
        table: The published md5 of every file, by name.
        config: Where the run will look for it.
    """
    findings = []
    for rule in _RULES:
        if isinstance(stamp, NoStamp):
            judgement, remedy = Judgement(stamp.reason, False), stamp.remedy
        else:
            judgement = rule.judge(_DataSet(stamp, table, config))
            remedy = judgement.thought or rule.remedy
        legal = State.WARNING if judgement.thought else State.OK
        findings.append(
            Finding(
                rule=rule.rule, required=rule.required, found=judgement.found, remedy=remedy,
                state=legal if judgement.legal else State.OFF, source=rule.source,
            )
        )  # fmt: skip
    return findings


def _folder(data: _DataSet) -> Judgement:
    return Judgement(data.stamp.data_dir, data.stamp.data_dir == place(data.config.data_dir))


def _cases(data: _DataSet) -> Judgement:
    """A case counts where both of its files are there."""
    present = data.stamp.files.keys()
    missing, extra = sorted(data.table.keys() - present), sorted(present - data.table.keys())
    labels = {name.removesuffix("_y.npy") for name in present if name.endswith("_y.npy")}
    cases = {case for case in labels if f"{case}_x.npy" in present}
    ids = evaluation_ids(data.config.evaluation_cases)
    evaluation = sum(int(case.removeprefix("case_")) in ids for case in cases)
    training = len(cases) - evaluation
    found = f"{training} and {evaluation}"
    found += f", without {named(missing)}" if missing else ""
    found += f", beside them {named(extra)}" if extra else ""
    legal = (training, evaluation) == (TRAIN_SAMPLES, EVAL_SAMPLES)
    return Judgement(found, legal and not missing and not extra)


def _labels(data: _DataSet) -> Judgement:
    labels = {name: file for name, file in data.stamp.files.items() if name.endswith("_y.npy")}
    wrong = [
        f"{name} {objection}"
        for name, file in sorted(labels.items())
        for objection in file.objections or (["differs"] if file.md5 != data.table.get(name) else [])
    ]
    if wrong:
        return Judgement(named(wrong), False)
    return Judgement(f"{len(labels)} as published", bool(labels))


def _images(data: _DataSet) -> Judgement:
    images = {name: file for name, file in data.stamp.files.items() if name.endswith("_x.npy")}
    differ = sorted(name for name, file in images.items() if file.md5 != data.table.get(name))
    wrong = [f"{name} {objection}" for name in differ for objection in images[name].objections]
    # Neither the published file nor looked at: nobody can tell.
    wrong += [f"{name} differs" for name in differ if not (images[name].voxels or images[name].objections)]
    if wrong:
        return Judgement(named(wrong), False)
    same = f"{len(images) - len(differ)} as published"
    if not differ:
        return Judgement(same, bool(images))
    thought = f"compare shape, mean and deviation with another machine's, of {', '.join(differ)}"
    return Judgement(f"{same}, {len(differ)} by shape, mean, deviation", True, thought)


def _precomputed(data: _DataSet) -> Judgement:
    others = data.stamp.others
    return Judgement(named(others) if others else "no other file", not others)


def _storage_dtype(data: _DataSet) -> Judgement:
    """By the manifest, and by the images that are not the published files."""
    voxels = (file.voxels for file in data.stamp.files.values())
    dtypes = {one.dtype for one in voxels if one} | {data.stamp.storage_dtype or MLPERF_STORAGE_DTYPE}
    return Judgement(_joined(dtypes), dtypes == {MLPERF_STORAGE_DTYPE})


def _origin(data: _DataSet) -> Judgement:
    stamp = data.stamp
    if stamp.preprocessing:
        return Judgement(stamp.preprocessing, False)
    if stamp.origin == "unknown":
        return Judgement(f"no {MANIFEST_NAME}, the md5s decide", True)
    return Judgement(stamp.origin, stamp.origin == "kits19")


def _durable(data: _DataSet) -> Judgement:
    return durable(data.stamp.storage, data.stamp.in_memory)


def durable(storage: Iterable[str], in_memory: Iterable[str]) -> Judgement:
    """Whether file systems are durable, by the names of all and of those in memory."""
    storage = tuple(storage)
    found = _joined(storage) if storage else "the kernel does not tell"
    return Judgement(found, bool(storage) and not any(in_memory))


def _joined(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


_STATE = "Data State at Start of Run"
_REFERENCE = "preprocess_dataset.py of the reference"
_PREPROCESS = "preprocess again with preprocess_dataset.py, into an empty folder"

_RULES = (
    _Rule(
        "stamp", "of --data_dir", _folder, f"run {COMMAND} with the --data_dir of the run", _STATE
    ),
    _Rule(
        "cases", f"{TRAIN_SAMPLES} to train, {EVAL_SAMPLES} to evaluate", _cases,
        "preprocess the missing ones, take the others away", "Training and Test Sets",
    ),
    _Rule(
        "labels", "the published md5s", _labels,
        "download segmentation.nii.gz of those cases again and preprocess them", _STATE,
    ),
    _Rule(
        "images", "the published md5s; or shape, mean, deviation", _images,
        "download imaging.nii.gz of those cases again and preprocess them", _STATE,
    ),
    _Rule(
        "precomputed content", f"nothing beside cases and {MANIFEST_NAME}", _precomputed,
        "take it out of --data_dir", "Pre-training is not allowed",
    ),
    _Rule("storage dtype", MLPERF_STORAGE_DTYPE, _storage_dtype, _PREPROCESS, _REFERENCE),
    _Rule("origin", "KiTS19, preprocessed as MLPerf does", _origin, _PREPROCESS, _REFERENCE),
    _Rule(
        "storage", "durable, not memory", _durable, "move the data to a disk or to network storage", _STATE
    ),
)  # fmt: skip
