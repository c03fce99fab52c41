"""What a package says of its runs: README, scripts to make them again, and metadata, from the logs."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.environment import describe
from benchmark.mllog import rules
from benchmark.submission.layout import IMPLEMENTATION, Layout
from benchmark.submission.one_log import RunFile
from runtime.mlperf_arguments import TEST_PLATFORM

VARIABLES = {
    "opt_name": "OPTIMIZER",
    "opt_base_learning_rate": "LEARNING_RATE",
    "opt_initial_learning_rate": "INIT_LEARNING_RATE",
    "opt_learning_rate_warmup_epochs": "LR_WARMUP_EPOCHS",
    "opt_learning_rate_decay_boundary_epochs": "LR_DECAY_EPOCHS",
    "opt_learning_rate_decay_factor": "LR_DECAY_FACTOR",
    "opt_weight_decay": "WEIGHT_DECAY",
    "opt_momentum": "MOMENTUM",
    "gradient_accumulation_steps": "GRADIENT_ACCUMULATION_STEPS",
    "oversampling": "OVERSAMPLING",
    "training_input_shape": "INPUT_SHAPE",
    "validation_input_shape": "VAL_INPUT_SHAPE",
    "validation_overlap": "OVERLAP",
    "submission_org": "MLPERF_ORG",
    "submission_status": "MLPERF_STATUS",
    "submission_platform": "MLPERF_PLATFORM",
}
"""Variables of run_and_time.sh by the keys that logs have for them."""

CODE = f'cd "$(dirname "$0")/../implementations/{IMPLEMENTATION}"'

SETUP = f"""#!/usr/bin/env bash
# Once on a machine: build the image that the runs are made in.
set -euo pipefail
{CODE}
exec docker build --tag "${{IMAGE:=voxelrate}}" .
"""

INIT_DATASETS = f"""#!/usr/bin/env bash
# Once: preprocess the raw cases in RAW_DATA_DIR into DATASET_DIR, and compare with the published sums.
set -euo pipefail
: "${{RAW_DATA_DIR:?the folder of the raw cases}}" "${{DATASET_DIR:?the folder to preprocess them into}}"
{CODE}
: "${{PYTHON:=python3}}"
"$PYTHON" preprocess_dataset.py --data_dir "$RAW_DATA_DIR" --results_dir "$DATASET_DIR"
exec "$PYTHON" preprocess_dataset.py --results_dir "$DATASET_DIR" --mode verify
"""


def texts(
    layout: Layout, system: Mapping[str, Any], runs: Sequence[RunFile], ruleset: str, rule: str
) -> dict[str, str]:
    """The files of ``layout.scripts`` by name. ``rule`` says which files the code is."""
    settings = {key: runs[0].log.value(key) for key in (*VARIABLES, "global_batch_size")}
    platform, division = str(settings["submission_platform"]), "closed-test" if runs[0].is_test else "closed"
    return {
        layout.metadata.name: _metadata(settings, runs, ruleset),
        "README.md": _readme(layout, system, settings, len(runs), ruleset, rule),
        "setup.sh": SETUP,
        "init_datasets.sh": INIT_DATASETS,
        "run_and_time.sh": _run_and_time(
            settings | {"submission_platform": platform.removeprefix(TEST_PLATFORM)},
            system,
            ruleset,
            division,
        ),
    }


def _metadata(settings: Mapping[str, Any], runs: Sequence[RunFile], ruleset: str) -> str:
    machine = describe()
    content = {
        "implementation": IMPLEMENTATION,
        "ruleset": ruleset,
        "starting_weights": "none, random initialisation",
        "hyperparameters": {key: runs[0].log.value(key) for key in ("opt_name", *rules.FREE)},
        "submission_platform": settings["submission_platform"],
        "runs": len(runs),
        "packaged_by": {key: machine.get(key) for key in ("commit", "dirty", "python", "packages")},
    }
    return json.dumps(content, indent=2) + "\n"


def _run_and_time(settings: Mapping[str, Any], system: Mapping[str, Any], ruleset: str, division: str) -> str:
    values = {VARIABLES[key]: _words(settings[key]) for key in VARIABLES}
    values |= {"MLPERF_DIVISION": division, "MLPERF_RULESET": ruleset, "MAX_EPOCHS": "10000"}
    values |= {
        "NPROC": _words(_count(system, "accelerators_per_node") or ""),
        "BATCH_SIZE": _local_batch(settings, system),
    }
    lines = [f': "${{{name}:={_quoted(value)}}}"' for name, value in values.items() if value]
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            "# One run with the settings of the logs; the implementation's run_and_time.sh lists the others.",
            "set -euo pipefail",
            CODE,
            *lines,
            f"export {' '.join(name for name, value in values.items() if value)}",
            'exec ./run_and_time.sh "$@"',
            "",
        ]
    )


def _local_batch(settings: Mapping[str, Any], system: Mapping[str, Any]) -> str:
    """Patches of a rank in a micro-batch if all accelerators train; empty where that is no whole number."""
    batch, steps = settings["global_batch_size"], settings["gradient_accumulation_steps"]
    ranks = _count(system, "number_of_nodes") * _count(system, "accelerators_per_node")
    if not (isinstance(batch, int) and isinstance(steps, int) and ranks * steps) or batch % (ranks * steps):
        return ""
    return str(batch // (ranks * steps))


def _count(system: Mapping[str, Any], field: str) -> int:
    """0 where a description does not tell a number, which only a rehearsal lets pass."""
    text = str(system.get(field))
    return int(text) if text.isdigit() else 0


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _quoted(value: str) -> str:
    """For between ``${NAME:=`` and ``}`` inside double quotes."""
    return "".join(f"\\{letter}" if letter in '"\\$`}' else letter for letter in value)


def _readme(
    layout: Layout, system: Mapping[str, Any], settings: Mapping[str, Any], runs: int, ruleset: str, rule: str
) -> str:
    name = shlex.quote(layout.system)
    rows = "\n".join(f"| {key} | {json.dumps(value)} |" for key, value in settings.items())
    return f"""# U-Net3D on {system.get("system_name")}

{runs} runs of MLPerf U-Net3D on KiTS19 under the rules {ruleset} of the closed division, with
{system.get("framework")}. The code, with a README of its own, is in
`../implementations/{IMPLEMENTATION}` ({rule}).

From the root of this package:

```bash
benchmarks/unet3d/{name}/setup.sh
RAW_DATA_DIR=raw DATASET_DIR=/data benchmarks/unet3d/{name}/init_datasets.sh
DATASET_DIR=/data LOG_DIR=/results benchmarks/unet3d/{name}/run_and_time.sh SEED
```

`init_datasets.sh` preprocesses the raw cases, whose download the code's README describes. `run_and_time.sh`
makes one run in the environment that it is started in; `launch/` of the code has the scripts that start a
series of runs in containers, on one machine or several.

What the logs have of the settings:

| key | value |
|---|---|
{rows}
"""
