"""The system description: its 33 fields, and what each may hold."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.mllog.log import Log
from benchmark.submission.objections import Objection
from pipelines.errors import DataError

FIELDS = (
    "submitter", "division", "status", "system_name", "number_of_nodes", "host_processors_per_node",
    "host_processor_model_name", "host_processor_core_count", "host_processor_vcpu_count",
    "host_processor_frequency", "host_processor_caches", "host_processor_interconnect",
    "host_memory_capacity", "host_storage_type", "host_storage_capacity", "host_networking",
    "host_networking_topology", "host_memory_configuration", "accelerators_per_node",
    "accelerator_model_name", "accelerator_host_interconnect", "accelerator_frequency",
    "accelerator_on-chip_memories", "accelerator_memory_configuration", "accelerator_memory_capacity",
    "accelerator_interconnect", "accelerator_interconnect_topology", "cooling", "hw_notes", "framework",
    "other_software_stack", "operating_system", "sw_notes",
)  # fmt: skip
"""Those of ``system_desc_checker.py``."""

MAY_BE_EMPTY = (
    "host_processor_core_count", "host_processor_vcpu_count", "host_processor_frequency",
    "host_processor_caches", "host_processor_interconnect", "accelerator_frequency",
    "accelerator_on-chip_memories", "accelerator_interconnect_topology", "hw_notes", "sw_notes",
)  # fmt: skip
"""Where submission_rules.adoc of mlcommons/policies wants no meaningful response; of the two counts, one."""

NUMBERS = {"number_of_nodes": 1, "host_processors_per_node": 1, "accelerators_per_node": 0}
"""Fields that result_summarizer computes with, and the least that they may be."""

STATUSES = {
    "onprem": "Available on-premise",
    "cloud": "Available cloud",
    "preview": "Preview",
    "research": "Research, Development, or Internal (RDI)",
}
"""``status`` by the ``submission_status`` that logs have."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""Of systems: the official checkers take names for file patterns, and refuse blanks and leading dots."""


def read_system(path: Path) -> dict[str, Any]:
    """The description as it is.

    Raises:
        DataError: No such file, no JSON, or no table.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); python -m benchmark submission system --out {path} "
            "writes one to complete"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}), expected a system description; mend it") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is no table, expected a JSON object with the fields of a system description")
    return content


def inspect_system(path: Path, system: Mapping[str, Any], org: str | None = None) -> list[Objection]:
    """What is wrong with a description; ``org`` is who submits it, None for whoever it says."""
    objections = [Objection(rule, str(path), found, "mend it") for rule, found in _of_fields(system)]
    if not NAME.fullmatch(path.stem):
        objections.append(
            Objection(
                "file names",
                str(path),
                f"the name of the system is {path.stem!r}, expected letters, digits and . _ + - alone",
                "rename the file",
            )
        )
    if org is not None and system.get("submitter") != org:
        found = (
            f"submitter is {json.dumps(system.get('submitter'))}, expected {json.dumps(org)} as --org has it"
        )
        objections.append(Objection("organisation", str(path), found, "mend one of them"))
    return objections


def _of_fields(system: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field in FIELDS:
        if field not in system:
            yield "system fields", f"has no field {field}, expected all {len(FIELDS)}"
            continue
        value = system[field]
        if not isinstance(value, str) and not (field == "other_software_stack" and _is_table(value)):
            yield "system types", f"{field} is {json.dumps(value)}, expected text in quotes"
        elif not value and field not in MAY_BE_EMPTY:
            yield "system meaning", f"{field} is empty, expected an answer, N/A where there is none to give"
    if not any(system.get(f"host_processor_{count}") for count in ("core_count", "vcpu_count")):
        yield (
            "system meaning",
            "host_processor_core_count and host_processor_vcpu_count are empty, expected one of them",
        )
    for field, least in NUMBERS.items():
        value = system.get(field)
        if isinstance(value, str) and value and not (re.fullmatch(r"[0-9]+", value) and int(value) >= least):
            yield "system numbers", f"{field} is {value!r}, expected a whole number from {least} on"
    division, status = system.get("division"), system.get("status")
    if isinstance(division, str) and division and division != "closed":
        yield "system division", f"division is {division!r}, expected 'closed'"
    if isinstance(status, str) and status and status not in STATUSES.values():
        yield (
            "system status",
            f"status is {status!r}, expected one of {', '.join(map(repr, STATUSES.values()))}",
        )


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(text, str) for text in value.values())


def fits_logs(path: Path, system: Mapping[str, Any], log: Log, logs: Path) -> Iterator[Objection]:
    """Whether submitter and status are those of the logs in the folder ``logs``, of which ``log`` is one."""
    org, status = log.value("submission_org"), log.value("submission_status")
    if org != system.get("submitter"):
        yield Objection(
            "organisation",
            str(logs),
            f"submission_org is {json.dumps(org)}, expected {json.dumps(system.get('submitter'))} as the "
            f"submitter of {path.name}",
            "name the submitter as the logs do, or make the runs with --mlperf_org",
        )
    expected = STATUSES.get(str(status))
    if expected and system.get("status") != expected:
        yield Objection(
            "status",
            str(path),
            f"status is {json.dumps(system.get('status'))}, expected {json.dumps(expected)} beside logs "
            f"whose submission_status is {status}",
            "mend it, or make the runs with another --mlperf_status",
        )
