"""Whether results can be written where they should go."""

import tempfile
from pathlib import Path

from runtime.preflight.finding import Finding, State


def folder_finding(folder: Path) -> Finding:
    """The rule on the folder of the results, which is made where there is none."""
    fault = fault_of_folder(folder)
    return Finding(
        rule="results folder",
        required="writable",
        found=fault or str(folder),
        state=State.OFF if fault else State.OK,
        remedy="pass another --log_dir, or mend its permissions",
        source="submission_rules.adoc of mlcommons/policies",
    )


def fault_of_folder(folder: Path) -> str:
    """Why no file can be written to ``folder``; empty where one can. Permissions do not tell root."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"{folder} cannot be written to ({error.strerror})"
