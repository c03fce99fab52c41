"""Whatever stands on the command line becomes a run or one sentence; and a run's flags say it all."""

import argparse
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime.arguments import RunConfig, build_parser, parse_arguments

ACTIONS = [action for action in build_parser()._actions if action.option_strings]
FLAGS = [flag for action in ACTIONS for flag in action.option_strings]

values = st.one_of(
    st.sampled_from(
        ["auto", "triton", "dali", "host", "nan", "inf", "-inf", "1e400", "-1", "0", "1", "0.5", "64", "1_0",
         "9" * 400, "9" * 5000, "-0", "0x10", "", "-", "--", "=", "\ud800", "\x1b[2J", "{}", "%s"]
    ),
    st.integers().map(str), st.floats().map(str),
    st.text(st.characters(exclude_categories=("Cc", "Zl", "Zp")), max_size=12),
)  # fmt: skip
"""What may stand on a command line."""
words = st.one_of(
    values, st.sampled_from(FLAGS), st.tuples(st.sampled_from(FLAGS), values).map("=".join),
    st.sampled_from([flag[:-1] for flag in FLAGS]),
)  # fmt: skip


def outcome(argv: list[str]) -> tuple[RunConfig | int, str]:
    """The run or the exit status, and what was said on standard error."""
    error = StringIO()
    with redirect_stderr(error), redirect_stdout(StringIO()):
        try:
            return parse_arguments(argv), error.getvalue()
        except SystemExit as end:
            return int(end.code or 0), error.getvalue()


@settings(max_examples=300)
@given(st.lists(words, max_size=6), st.booleans())
@example(["--val_input_shape", *["9" * 400] * 3], True)
@example(["--input_shape", "64", "64", "6" * 500], True)
@example(["--val_input_shape", f"32{'0' * 400}", "64", "64"], True)
@example(["a\nb\x1b[2J"], True)
def test_any_words_are_a_run_or_one_sentence(argv: list[str], with_data: bool) -> None:
    found, said = outcome([*(["--data_dir", "d"] if with_data else []), *argv])
    if found == 0:
        assert {"-h", "--help"} & set(argv)
    elif isinstance(found, int):
        assert found == 2
        assert said.startswith("main.py: error: ")
        assert said.endswith("(see --help)\n")
        assert len(said.splitlines()) == 1
    else:
        assert said == ""
        hash(found)


NUMBERS: dict[str, st.SearchStrategy[Any]] = {
    "batch_size": st.integers(1, 64), "ga_steps": st.integers(1, 8), "epochs": st.integers(1, 10_000),
    "seed": st.integers(-1, 2**63 - 1), "num_workers": st.integers(0, 64), "warmup_steps": st.integers(0, 99),
    "learning_rate": st.floats(0, 1e6), "momentum": st.floats(0, 1), "weight_decay": st.floats(0, 1),
    "init_learning_rate": st.floats(0, 1), "lr_decay_factor": st.floats(0, 1),
    "oversampling": st.floats(0, 1), "quality_threshold": st.floats(0, 1),
    "lr_warmup_epochs": st.integers(0, 500), "loader_timeout": st.floats(1e-3, 1e6),
    "val_batch_size": st.integers(1, 16),
}  # fmt: skip
"""Flags of one number, which go with any others."""
LISTS: dict[str, st.SearchStrategy[list[int]]] = {
    "lr_decay_epochs": st.lists(st.integers(1, 5000), min_size=1, max_size=4),
    "input_shape": st.lists(st.integers(2, 6).map(lambda n: 32 * n), min_size=3, max_size=3),
    "val_input_shape": st.lists(st.integers(2, 6).map(lambda n: 32 * n), min_size=3, max_size=3),
}
CHOICES = ("loader", "brightness", "last_batch", "sharding", "layout", "optimizer", "activation", "amp_dtype")
SWITCHES = ("amp", "verbose", "include_background", "cudnn_benchmark", "cudnn_deterministic")


def choices(flag: str) -> list[str]:
    (action,) = (action for action in ACTIONS if action.dest == flag)
    return list(action.choices or str(action.metavar).strip("{}").split(","))


runs = st.fixed_dictionaries(
    {},
    optional=NUMBERS | LISTS | {flag: st.sampled_from(choices(flag)) for flag in CHOICES}
    | {flag: st.just(True) for flag in SWITCHES},
)  # fmt: skip


def as_words(flags: dict[str, Any]) -> list[str]:
    """The command line of ``flags``."""
    argv = []
    for name, value in flags.items():
        argv.append(f"--{name}")
        argv += [] if value is True else map(str, value) if isinstance(value, list) else [str(value)]
    return argv


def told(run: RunConfig) -> dict[str, Any]:
    """Every flag of a run that this file draws, read back out of its configurations."""
    parts = (run, run.loader, run.speed, run.optimizer)
    found = {name: getattr(part, name) for part in reversed(parts) for name in vars(part)}
    rate = run.learning_rate
    found |= {
        "learning_rate": rate.base, "init_learning_rate": rate.initial,
        "lr_warmup_epochs": rate.warmup_epochs, "lr_decay_epochs": rate.decay_epochs,
        "lr_decay_factor": rate.decay_factor,
        "loader_timeout": run.loader.timeout, "optimizer": run.optimizer.name, "loader": run.loader.loader,
        "seed": run.seed,
    }  # fmt: skip
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


@settings(max_examples=60)
@given(runs, st.data())
def test_a_run_says_every_flag_it_was_given_and_parses_from_what_it_says(
    flags: dict[str, Any], data: st.DataObject
) -> None:
    run, said = outcome(["--data_dir", "d", *as_words(flags)])
    assert isinstance(run, RunConfig), said
    names = [*NUMBERS, *LISTS, *CHOICES, *SWITCHES]
    found = told(run)
    assert {name: found[name] for name in flags} == flags
    unset = argparse.Namespace(**{action.dest: action.default for action in ACTIONS})
    for name in set(names) - flags.keys():
        assert found[name] == getattr(unset, name), name
    # Whatever the order, and with every default spelt out.
    everything = {name: found[name] for name in data.draw(st.permutations(names))}
    kept = {name: value for name, value in everything.items() if value is not False and value != []}
    assert outcome([*as_words(kept), "--data_dir", "d"])[0] == run
    assert run.loader.data_dir == Path("d")


def test_the_process_own_arguments_are_the_default(monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py", "--data_dir", "d", "--epochs", "7"])
    assert parse_arguments().epochs == 7
