"""Settings of the closed division: each is a rule, and each rule is about one setting."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.unet3d import MLPERF_FILTERS
from runtime.arguments import CUBE, RunConfig
from runtime.preflight.finding import State
from runtime.preflight.settings import caches_finding, setting_findings
from tests.unit.runtime.preflight_cases import legal_config, of_rule, off

FRACTIONS = st.floats(0, 1, allow_nan=False)
SHAPES = st.tuples(*[st.sampled_from((32, 64, 96, 128, 160))] * 3)

CHANGES: dict[str, tuple[str, st.SearchStrategy[Any], Any]] = {
    "mode": ("exec_mode", st.just("evaluate"), None),
    "timing of steps": ("benchmark", st.just(True), None),
    "start": ("checkpoint.resume", st.just("auto") | st.builds(Path, st.text("ab/.", min_size=1)), None),
    "bad cases": ("loader.on_bad_case", st.just("skip"), None),
    "target": ("quality_threshold", FRACTIONS, 0.908),
    "optimizer": ("optimizer.name", st.sampled_from(("adam", "lamb")), None),
    "oversampling": ("loader.oversampling", FRACTIONS, 0.4),
    "training shape": ("loader.input_shape", SHAPES, CUBE),
    "evaluation shape": ("loader.val_input_shape", SHAPES, CUBE),
    "evaluation overlap": ("overlap", st.floats(0, 0.99), 0.5),
    "channels": ("filters", st.lists(st.integers(1, 512), min_size=1).map(tuple), MLPERF_FILTERS),
    "normalization": ("normalization", st.sampled_from(("batchnorm", "syncbatchnorm")), None),
    "activation": ("activation", st.just("leaky_relu"), None),
    "background in Dice": ("include_background", st.just(True), None),
    "brightness": ("loader.brightness", st.just("nvidia"), None),
    "loader": ("loader.loader", st.just("synthetic"), None),
    "container": ("mlperf.container", st.just(""), None),
}
"""Rule: the setting, its other values, and the legal one where those could hit it."""


def changed(config: RunConfig, setting: str, value: object) -> RunConfig:
    part, _, name = setting.rpartition(".")
    if not part:
        return replace(config, **{name: value})
    return replace(config, **{part: replace(getattr(config, part), **{name: value})})


def test_the_legal_run_is_legal_without_a_second_thought() -> None:
    assert {finding.state for finding in setting_findings(legal_config())} == {State.OK}


@given(st.data())
def test_one_changed_setting_puts_exactly_its_rule_off(data: st.DataObject) -> None:
    rule = data.draw(st.sampled_from(sorted(CHANGES)))
    setting, values, legal = CHANGES[rule]
    value = data.draw(values.filter(lambda value: value != legal))
    findings = setting_findings(changed(legal_config(), setting, value))
    assert off(findings) == [rule]
    assert of_rule(findings, rule).remedy


@given(st.data())
@settings(max_examples=5)
def test_every_rule_that_can_be_off_is_among_the_changes(data: st.DataObject) -> None:
    config = legal_config()
    for setting, values, legal in CHANGES.values():
        value = data.draw(values.filter(lambda value, legal=legal: value != legal))
        config = changed(config, setting, value)
    assert off(setting_findings(config)) == list(CHANGES)


@pytest.mark.parametrize(
    ("setting", "value", "rule", "shown"),
    [
        ("learning_rate.base", 2.0, "hyperparameters", "learning rate 2"),
        ("learning_rate.warmup_epochs", 1000, "hyperparameters", "over 1000 epochs"),
        ("learning_rate.decay_epochs", (8, 9), "hyperparameters", "after 8 9"),
        ("optimizer.momentum", 0.8, "hyperparameters", "momentum 0.8"),
        ("optimizer.weight_decay", 0.1, "hyperparameters", "weight decay 0.1"),
        ("amp", True, "precision", "float16"),
        ("loader.image_dtype", "bfloat16", "precision", "images bfloat16"),
        ("speed.ddp_gradient_dtype", "float16", "precision", "gradients between ranks float16"),
        ("loader.data_cache", "host", "data cache", "host, filled as the run reads"),
        ("mlperf.platform", "8xH200", "submission", "8xH200"),
    ],
)
def test_what_is_free_is_shown_and_legal(setting: str, value: object, rule: str, shown: str) -> None:
    findings = setting_findings(changed(legal_config(), setting, value))
    assert off(findings) == []
    assert shown in of_rule(findings, rule).found


@pytest.mark.parametrize("backend", ["auto", "apex"])
def test_an_optimizer_that_may_not_be_a_listed_one_is_worth_a_thought(backend: str) -> None:
    config = changed(legal_config(), "optimizer.backend", backend)
    assert of_rule(setting_findings(config), "optimizer's implementation").state is State.WARNING
    with_graph = changed(config, "speed.cuda_graph", True)
    assert of_rule(setting_findings(with_graph), "optimizer's implementation").state is State.OK


def test_caches_must_have_been_dropped_once_the_run_starts() -> None:
    states = {cleared: caches_finding(cleared).state for cleared in (None, "yes", "refused", "unknown")}
    assert states == {None: State.OK, "yes": State.OK, "refused": State.OFF, "unknown": State.OFF}
