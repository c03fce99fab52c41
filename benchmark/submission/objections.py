"""What keeps logs, a system description or a package from being submitted: the rules by name."""

from collections.abc import Iterable
from dataclasses import dataclass

OFFICIAL = {
    "lines": "each :::MLLOG line is whole JSON with time_ms, key, value and metadata, one to a line",
    "stray words": "no event names another that rcp_checker looks for: eval_accuracy, global_batch_size, ...",
    "keys": "the keys that the compliance checker wants are logged, and not with different values",
    "values": "their values and metadata are of the kind that the checkers compute with",
    "order": "cache_clear, init_start, init_stop, run_start, training, run_stop, each after the others",
    "init time": "less than 30 minutes from the first init_start to init_stop",
    "cache clear": "the caches were dropped",
    "weights": "rulesets 1.1.0 to 2.1.0: the tensors that the rules list were initialised",
    "seeds": "each run logs a whole number as its seed, with file and line, and no two the same",
    "count": "there are forty logs",
    "unconverged": "at most four runs miss the target",
    "convergence": "the mean of samples to converge is no lower than the reference convergence points allow",
    "system fields": "the system description is JSON with all 33 fields",
    "system numbers": "nodes, processors and accelerators per node are whole numbers",
    "system status": "status is one of the four that the system checker takes",
    "file names": "no file or folder has a blank in its name or begins with a dot, no path is a file pattern",
    "file sizes": "no file is larger than 50 MiB, no link leads nowhere",
}
"""What an official checker refuses as well, or crashes on."""

EXTRA = {
    "test run": "no log is of a run under --mlperf_division closed-test",
    "one run": "a log holds one whole run: one run_start, and one run_stop after it",
    "closed rules": "the division is closed: fixed settings, optimizer, evaluation schedule, no dropped "
    "partial batch, no resumed run, a status that fits the scores",
    "duplicate keys": "nothing that identifies or configures a run is logged twice, not even with one value",
    "optimizer keys": "opt_initial_learning_rate is logged, and no opt_ key that reference points lack",
    "trained on": "a run stops at the first evaluation that reaches the target",
    "epoch unit": "epoch_num of evaluations counts samples from ruleset 3.1.0 on, epochs before",
    "same settings": "all runs have the same batch size, hyperparameters, organisation, platform and status",
    "one seed": "two runs share no seed, wherever in the code it was logged",
    "organisation": "logs, system description and --org name the same submitter",
    "status": "submission_status of the logs fits the status of the system description",
    "system types": "all fields are text, other_software_stack text or a table of texts",
    "system meaning": "what the submission rules want a meaningful response for is not empty",
    "system division": "division is closed, in lower case: Closed would skip the seed and RCP checks",
    "numbering": "result files are result_<number>.txt; in a package result_0.txt to result_39.txt",
    "bypass": "no package_checker_params, which switch checks off",
    "other files": "a package holds no other benchmark, and nothing but logs and scaling.json beside logs",
    "code": "the package has the implementation and the scripts, which no official checker looks for",
    "rehearsal": "nothing that is marked NOT_FOR_SUBMISSION is submitted",
}
"""What only we refuse."""


@dataclass(frozen=True)
class Objection:
    """One thing that is wrong."""

    rule: str
    """A name in ``OFFICIAL`` or ``EXTRA``."""
    where: str
    """The file or folder."""
    found: str
    """What is there, and what was expected."""
    advice: str
    """What to do."""

    def __post_init__(self) -> None:
        assert self.rule in OFFICIAL | EXTRA, self.rule

    @property
    def text(self) -> str:
        """The sentence without the place."""
        return f"{self.found}; {self.advice}"


def sentences(objections: Iterable[Objection]) -> list[str]:
    """A sentence for each, and one for the same in many files: the first three are named."""
    places: dict[tuple[str, str], list[str]] = {}
    for objection in objections:
        places.setdefault((objection.rule, objection.text), []).append(objection.where)
    return [f"{_named(where)}: {text} [{rule}]" for (rule, text), where in places.items()]


def _named(places: list[str]) -> str:
    if len(places) <= 3:
        return ", ".join(places)
    return f"{', '.join(places[:3])} and {len(places) - 3} more"
