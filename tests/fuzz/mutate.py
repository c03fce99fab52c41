"""Damage that a log or a header is likely to have: bytes alone seldom make JSON that is wrong, but whole."""

import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

from benchmark.mllog.log import TOKEN
from tests.fuzz.targets import SEPARATOR

DESCRS = (
    "'<f4'", "'<f2'", "'|u1'", "'>f4'", "'|O'", "'<f8'", "'|S9'", "'<U99'", "'|V0'", "'a3'", "[('a', '<f4')]",
    "1",
)  # fmt: skip
SIZES = ("1", "2", "3", "0", "-1", "1L", "0x1", "True", "99", "9" * 18, "9" * 19, "9" * 5000, "")
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 0.908, 168, 2**31, 2**63, 10**15, 10**400, 1e308, -1e308, 5e-324, 1e-12,
    float("nan"), float("inf"), "", "unet3d", "success", "aborted", "\ud800", "\x1b[2J", "\n", "\u202e",
    "[red]", "9" * 30, [], {}, [[128, 128, 128]], {"throughput": 1e308}, {"status": "\ud800"},
    {"epoch_num": 10**400},
)  # fmt: skip
KEYS = (
    "run_start", "run_stop", "block_start", "block_stop", "epoch_start", "epoch_stop", "eval_start",
    "eval_stop", "eval_accuracy", "tracked_stats", "throughput", "seed", "global_batch_size", "train_samples",
    "samples_per_epoch", "opt_name", "submission_benchmark", "training_input_shape",
)  # fmt: skip
FIELDS = ("epoch_num", "first_epoch_num", "epoch_count", "samples_count", "status")


def npy_file(data: bytes, size: int, seed: int, otherwise: Callable[[bytes, int], bytes]) -> bytes:
    """At most ``size`` bytes: a header that is likely to be wrong before the end of ``data``; or what
    ``otherwise`` makes of it."""
    rng = random.Random(seed)
    if rng.randrange(2):
        return otherwise(data, size)
    axes = rng.choice((3, 4, 4, 4, 5, 40))
    shape = "".join(f"{rng.choice(SIZES[:4] if rng.randrange(4) else SIZES)}, " for _ in range(axes))
    order = rng.choice(("False", "False", "True", "0"))
    header = f"{{'descr': {rng.choice(DESCRS)}, 'fortran_order': {order}, 'shape': ({shape}), }}"
    header += " " * rng.choice((0, -(len(header) + 11) % 64, 64)) + "\n"
    version = rng.choice((1, 1, 2, 3))
    claimed = rng.choice((len(header), len(header), len(header) + 1, 0, 2**16 - 1, 2**31))
    field = struct.pack("<H", claimed % 2**16) if version == 1 else struct.pack("<I", claimed)
    return (b"\x93NUMPY" + bytes((version, 0)) + field + header.encode() + data[128:])[:size]


def log_lines(data: bytes, size: int, seed: int, otherwise: Callable[[bytes, int], bytes]) -> bytes:
    """At most ``size`` bytes: ``data`` with a line of a log changed, moved, doubled or gone; or what
    ``otherwise`` makes of it."""
    rng = random.Random(seed)
    lines = re.split(b"(\n|" + SEPARATOR + b")", data)
    where = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            del lines[where]
        case 1:
            lines.insert(rng.randrange(len(lines)), lines[where])
        case 2:
            other = rng.randrange(len(lines))
            lines[where], lines[other] = lines[other], lines[where]
        case 3 | 4:
            lines[where] = _changed(lines[where], rng)
        case _:
            return otherwise(data, size)
    return b"".join(lines)[:size]


def _changed(line: bytes, rng: random.Random) -> bytes:
    """The line with a value of its JSON replaced; as it is where it has none."""
    before, token, text = line.partition(TOKEN.encode())
    try:
        content = json.loads(text if token else line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(content, dict):
        return line
    match rng.randrange(4):
        case 0:
            content["time_ms"] = rng.choice((*VALUES, rng.randrange(10**4)))
        case 1:
            content["key"] = rng.choice((*KEYS, *VALUES))
        case 2:
            content[rng.choice(("value", "metadata", *content))] = rng.choice(VALUES)
        case _:
            told = content.setdefault("metadata", {})
            if isinstance(told, dict):
                told[rng.choice(FIELDS)] = rng.choice(VALUES)
    return b" ".join(filter(None, (before.strip(), token, json.dumps(content).encode())))
