"""Ways to spoil a log, each at a place and with a value that hypothesis draws.

A spoiling takes the lines of a log and draws; it returns the lines of the spoiled one.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

TOKEN = ":::MLLOG "
Draw = Callable[[st.SearchStrategy[Any]], Any]
Spoiling = Callable[[list[str], Draw], list[str]]

IDENTIFYING = (
    "submission_benchmark", "submission_org", "submission_division", "submission_status",
    "submission_platform", "seed", "global_batch_size", "gradient_accumulation_steps", "opt_name",
    "opt_base_learning_rate", "opt_learning_rate_warmup_epochs", "opt_learning_rate_decay_boundary_epochs",
    "opt_learning_rate_decay_factor", "opt_weight_decay", "opt_momentum", "oversampling",
    "training_input_shape", "validation_input_shape", "validation_overlap", "train_samples", "eval_samples",
)  # fmt: skip
EVENTS = (
    "cache_clear", "init_start", "init_stop", "run_start", "run_stop", "block_start", "block_stop",
    "eval_accuracy",
)  # fmt: skip
ODD = (None, "", "odd", "1", True, False, -1, 0, 0.5, 1e12, [], {}, [1], float("nan"))


def event(line: str) -> dict[str, Any]:
    """The object of a line."""
    content: dict[str, Any] = json.loads(line[len(TOKEN) :])
    return content


def line_of(content: dict[str, Any]) -> str:
    """The line of an object."""
    return TOKEN + json.dumps(content)


def places(lines: Sequence[str], *keys: str) -> list[int]:
    """Where events of ``keys`` are; all of them without any."""
    wanted = tuple(f'"key": "{key}"' for key in keys)
    return [i for i, line in enumerate(lines) if not keys or any(key in line for key in wanted)]


def edited(lines: Sequence[str], place: int, change: Callable[[dict[str, Any]], Any]) -> list[str]:
    """With the object of a line changed."""
    content = event(lines[place])
    change(content)
    return [*lines[:place], line_of(content), *lines[place + 1 :]]


def _at(draw: Draw, lines: Sequence[str], *keys: str) -> int:
    place: int = draw(st.sampled_from(places(lines, *keys)))
    return place


def drop_a_key(lines: list[str], draw: Draw) -> list[str]:
    key = draw(st.sampled_from(IDENTIFYING + EVENTS))
    return [line for line in lines if event(line)["key"] != key]


def drop_a_line(lines: list[str], draw: Draw) -> list[str]:
    place = _at(draw, lines)
    return lines[:place] + lines[place + 1 :]


def misspell_a_key(lines: list[str], draw: Draw) -> list[str]:
    place = _at(draw, lines, *IDENTIFYING, "run_stop", "init_stop", "run_start")
    return edited(lines, place, lambda content: content.update(key=content["key"] + "_"))


def repeat_a_line(lines: list[str], draw: Draw) -> list[str]:
    place, target = _at(draw, lines), _at(draw, lines)
    return [*lines[:target], lines[place], *lines[target:]]


def repeat_with_another_value(lines: list[str], draw: Draw) -> list[str]:
    place = _at(draw, lines, *IDENTIFYING)
    value = draw(st.sampled_from(ODD))
    return [*lines[: place + 1], *edited(lines, place, lambda content: content.update(value=value))[place:]]


def odd_value(lines: list[str], draw: Draw) -> list[str]:
    place = _at(draw, lines, *IDENTIFYING, *EVENTS)
    value = draw(st.sampled_from(ODD))
    return edited(lines, place, lambda content: content.update(value=value))


def odd_score(lines: list[str], draw: Draw) -> list[str]:
    place = draw(st.sampled_from([places(lines, "eval_accuracy")[-1], _at(draw, lines, "eval_accuracy")]))
    value = draw(st.sampled_from((*ODD, 0.907, 0.908, 0.95)))
    return edited(lines, place, lambda content: content.update(value=value))


def odd_seed(lines: list[str], draw: Draw) -> list[str]:
    value = draw(st.sampled_from((*ODD, "17", "seventeen", 1.0)))
    return edited(lines, _at(draw, lines, "seed"), lambda content: content.update(value=value))


def drop_a_field(lines: list[str], draw: Draw) -> list[str]:
    field = draw(st.sampled_from(("time_ms", "key", "value", "metadata")))
    return edited(lines, _at(draw, lines), lambda content: content.pop(field))


def odd_field(lines: list[str], draw: Draw) -> list[str]:
    field = draw(st.sampled_from(("time_ms", "key", "metadata")))
    value = draw(st.sampled_from(ODD))
    return edited(lines, _at(draw, lines), lambda content: content.update({field: value}))


def drop_metadata(lines: list[str], draw: Draw) -> list[str]:
    place = _at(draw, lines, *EVENTS, "seed", "eval_start", "eval_stop")
    name = draw(st.sampled_from(sorted(event(lines[place])["metadata"])))
    return edited(lines, place, lambda content: content["metadata"].pop(name))


def odd_metadata(lines: list[str], draw: Draw) -> list[str]:
    place = _at(draw, lines, *EVENTS, "seed")
    name = draw(st.sampled_from(sorted(event(lines[place])["metadata"])))
    value = draw(st.sampled_from(ODD))
    return edited(lines, place, lambda content: content["metadata"].update({name: value}))


def cut_the_file(lines: list[str], draw: Draw) -> list[str]:
    text = "\n".join(lines)
    return text[: draw(st.integers(len(text) // 50, len(text) - 2))].split("\n")


def cut_a_line(lines: list[str], draw: Draw) -> list[str]:
    place = _at(draw, lines)
    length = draw(st.integers(len(TOKEN), len(lines[place]) - 1))
    return [*lines[:place], lines[place][:length], *lines[place + 1 :]]


def swap_two_lines(lines: list[str], draw: Draw) -> list[str]:
    first = _at(draw, lines, "cache_clear", "init_start", "init_stop", "run_start", "run_stop", "block_start")
    second = _at(draw, lines)
    swapped = list(lines)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    return swapped


def long_initialisation(lines: list[str], draw: Draw) -> list[str]:
    stop = places(lines, "init_stop")[0]
    minutes = draw(st.floats(28, 40))
    for place in range(stop, len(lines)):
        later = event(lines[place])["time_ms"] + 60_000 * minutes
        lines = edited(lines, place, lambda content, later=later: content.update(time_ms=later))
    return lines


def two_events_in_a_line(lines: list[str], draw: Draw) -> list[str]:
    place = draw(st.integers(0, len(lines) - 2))
    return [*lines[:place], lines[place] + lines[place + 1], *lines[place + 2 :]]


def no_blank_after_the_token(lines: list[str], draw: Draw) -> list[str]:
    place = _at(draw, lines, *IDENTIFYING, *EVENTS)
    return [*lines[:place], lines[place].replace(TOKEN, TOKEN.strip(), 1), *lines[place + 1 :]]


def text_after_an_event(lines: list[str], draw: Draw) -> list[str]:
    place = _at(draw, lines)
    text = draw(st.sampled_from((" done", "}", "  ", "\t", ",", " # rank 0")))
    return [*lines[:place], lines[place] + text, *lines[place + 1 :]]


def text_before_an_event(lines: list[str], draw: Draw) -> list[str]:
    place = _at(draw, lines)
    text = draw(st.sampled_from(("0: ", "[rank0] ", "50%|##  | 3/6\r", "epoch 3: ")))
    return [*lines[:place], text + lines[place], *lines[place + 1 :]]


def a_stray_word(lines: list[str], draw: Draw) -> list[str]:
    words = ("eval_accuracy", "eval_error", "global_batch_size", "submission_benchmark", "run_stop", "seed")
    place, word = _at(draw, lines), draw(st.sampled_from(words))
    where = draw(st.sampled_from(("value", "metadata")))
    change = {
        "value": {"value": f"the {word}"},
        "metadata": {"metadata": event(lines[place])["metadata"] | {word: 1}},
    }
    return edited(lines, place, lambda content: content.update(change[where]))


def another_fixed_setting(lines: list[str], draw: Draw) -> list[str]:
    settings = {
        "train_samples": (167, 210, "168"), "eval_samples": (41, 0, "42"), "oversampling": (0.3, 0),
        "submission_benchmark": ("ssd", "UNET3D", ""), "submission_division": ("open", "Closed", "closed "),
        "submission_status": ("available", "Preview", ""), "submission_org": ("",),
        "submission_platform": ("",), "opt_learning_rate_warmup_epochs": (-1, "1000"),
        "gradient_accumulation_steps": (0, -1, "1"),
    }  # fmt: skip
    key = draw(st.sampled_from(sorted(settings)))
    value = draw(st.sampled_from(settings[key]))
    return edited(lines, _at(draw, lines, key), lambda content: content.update(value=value))


def another_status(lines: list[str], draw: Draw) -> list[str]:
    value = draw(st.sampled_from(("success ", "aborted", "abort", "", None, 1)))
    return edited(
        lines, _at(draw, lines, "run_stop"), lambda content: content["metadata"].update(status=value)
    )


def never_on_target(lines: list[str], draw: Draw) -> list[str]:
    score = draw(st.floats(0, 0.9079))
    for place in places(lines, "eval_accuracy"):
        lines = edited(lines, place, lambda content: content.update(value=score))
    return lines


def the_other_unit(lines: list[str], draw: Draw) -> list[str]:
    for place in places(lines, "eval_start", "eval_accuracy", "eval_stop"):
        epochs = event(lines[place])["metadata"]["epoch_num"] // 168
        lines = edited(lines, place, lambda content, e=epochs: content["metadata"].update(epoch_num=e))
    return lines


def another_batch_size(lines: list[str], draw: Draw) -> list[str]:
    value = draw(st.sampled_from((28, 84, 42, 168, 56.5, "56", 0, -56)))
    return edited(lines, _at(draw, lines, "global_batch_size"), lambda content: content.update(value=value))


def a_second_run(lines: list[str], draw: Draw) -> list[str]:
    return (
        lines + lines[places(lines, draw(st.sampled_from(("cache_clear", "init_start", "run_start"))))[0] :]
    )


def nothing_at_all(lines: list[str], draw: Draw) -> list[str]:
    del lines
    return draw(st.sampled_from(([], ["no event"], [""])))  # type: ignore[no-any-return]


OF_A_LOG: tuple[Spoiling, ...] = (
    drop_a_key, drop_a_line, misspell_a_key, repeat_a_line, repeat_with_another_value, odd_value, odd_score,
    odd_seed, drop_a_field, odd_field, drop_metadata, odd_metadata, cut_the_file, cut_a_line, swap_two_lines,
    long_initialisation, two_events_in_a_line, no_blank_after_the_token, text_after_an_event,
    text_before_an_event, a_stray_word, another_fixed_setting, another_status, never_on_target,
    the_other_unit, another_batch_size, a_second_run, nothing_at_all,
)  # fmt: skip
