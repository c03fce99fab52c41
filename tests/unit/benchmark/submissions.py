"""What tests of submissions share: a system description, and the command in this process."""

import json
from pathlib import Path
from typing import Any

from benchmark.submission import command
from benchmark.submission.system import FIELDS
from preprocess.flags import OneSentenceParser

ORG = "voxelrate"
STATUS = "Research, Development, or Internal (RDI)"


def described(path: Path, **changed: Any) -> Path:
    """The description of a system of eight accelerators, with fields changed; None takes one away."""
    fields: dict[str, Any] = dict.fromkeys(FIELDS, "N/A")
    fields |= {"submitter": ORG, "division": "closed", "status": STATUS, "system_name": "eight of them"}
    fields |= {"number_of_nodes": "1", "host_processors_per_node": "2", "accelerators_per_node": "8"}
    fields |= changed
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({field: value for field, value in fields.items() if value is not None}))
    return path


def submission(*arguments: object) -> int:
    """``python -m benchmark submission ARGUMENTS``: its exit status."""
    parser = OneSentenceParser(prog="python -m benchmark submission")
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))
