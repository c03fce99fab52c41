"""Compare a data folder with the published md5 table, file by file."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tqdm import tqdm

from preprocess.errors import UsageError
from preprocess.files import TEMPORARY_SUFFIX, file_md5, npy_descr
from preprocess.manifest import MANIFEST_NAME, Manifest, ManifestError
from preprocess.origin import describe
from preprocess.spec import MLPERF_STORAGE_DTYPE, STORAGE_FORMATS

CHECKSUMS_FILE = Path(__file__).resolve().parent / "checksums.json"
"""The md5 of all 420 files, as published with the MLPerf reference (its ``checksum.json``)."""

KNOWN_TO_DIFFER = "case_00043_x.npy"
"""The CT of this case differs between downloads (mlcommons/training issue 545); its table entry is older."""


class State(StrEnum):
    """What verification can say about one file."""

    OK = "ok"
    WRONG = "wrong"
    MISSING = "missing"
    UNEXPECTED = "unexpected"


@dataclass(frozen=True)
class Finding:
    """The state of one file, with a hint where there is something to do about it."""

    file: str
    state: State
    hint: str = ""


def compare(folder: Path, table: dict[str, str], workers: int) -> Iterator[Finding]:
    """Compare every file of ``folder`` with ``table`` (md5 by file name), in order of the names.

    ``manifest.json`` is not part of the data set and is passed over; a leftover temporary is unexpected.

    Raises:
        UsageError: ``folder`` is not a folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give the results of preprocessing as --results_dir")
    present = {path.name for path in folder.iterdir()} - {MANIFEST_NAME}
    written = _written_md5s(folder)
    with ThreadPoolExecutor(workers) as threads:
        both = sorted(present & table.keys())
        hashes = threads.map(lambda name: file_md5(folder / name), both)
        md5s = dict(zip(both, tqdm(hashes, total=len(both), unit="file"), strict=True))
    for name in sorted(present | table.keys()):
        if name not in table:
            unfinished = name.endswith(TEMPORARY_SUFFIX)
            yield Finding(
                name, State.UNEXPECTED, "left by a killed run; preprocess again" if unfinished else ""
            )
        elif name not in present:
            yield Finding(name, State.MISSING, "preprocess again")
        elif md5s[name] == table[name]:
            yield Finding(name, State.OK)
        else:
            yield Finding(name, State.WRONG, _hint(folder / name, md5s[name], written))


def _written_md5s(folder: Path) -> dict[str, str]:
    try:
        manifest = Manifest.load(folder)
    except ManifestError:
        return {}
    cases = manifest.cases if manifest else {}
    return {f"{name}_x.npy": case.image_md5 for name, case in cases.items()} | {
        f"{name}_y.npy": case.label_md5 for name, case in cases.items()
    }


def _hint(path: Path, md5: str, written: dict[str, str]) -> str:
    name = path.name
    if name in written and written[name] != md5:
        return "the file changed after it was written; delete it and preprocess again"
    if name.endswith("_y.npy"):
        return "labels must match exactly; download segmentation.nii.gz again and preprocess again"
    if npy_descr(path) == STORAGE_FORMATS["float16"]:
        unchanged = ", unchanged since it was written" if name in written else ""
        return f"stored as float16{unchanged}; the table is of float32 files"
    if name == KNOWN_TO_DIFFER:
        return "known upstream: this CT differs between downloads (mlcommons/training issue 545)"
    return (
        "float32 may differ in the last bits between builds of torch; check that the label of the case is ok "
        "and shape, mean and std agree with another machine's, otherwise download imaging.nii.gz again"
    )


def load_table() -> dict[str, str]:
    """The published md5 of every file, by file name."""
    table: dict[str, str] = json.loads(CHECKSUMS_FILE.read_text(encoding="utf-8"))
    return table


def verify(folder: Path, workers: int) -> int:
    """Print one line for every case and a summary; the exit status, 0 only when every file is right."""
    findings = list(compare(folder, load_table(), workers))
    cases: dict[str, list[Finding]] = {}
    for finding in findings:
        match = re.match(r"case_\d+", finding.file)
        cases.setdefault(match[0] if match else finding.file, []).append(finding)
    for name, group in cases.items():
        print(f"{name}: {_describe(group)}")
    counts = {state: sum(f.state is state for f in findings) for state in State}
    print(", ".join(f"{count} files {state}" for state, count in counts.items()))
    for note in _notes(folder):
        print(note)
    return 0 if counts[State.OK] == len(findings) else 1


def _describe(group: list[Finding]) -> str:
    states = {finding.state for finding in group}
    if len(states) == 1 and not any(finding.hint for finding in group):
        return str(next(iter(states)))
    return "; ".join(f"{f.file} {f.state}" + (f" ({f.hint})" if f.hint else "") for f in group)


def _notes(folder: Path) -> Iterator[str]:
    """What keeps the folder from matching the table whatever its files are."""
    try:
        manifest = Manifest.load(folder)
    except ManifestError as error:
        yield f"note: {error}"
        return
    if manifest is None:
        return
    phantom, stored = manifest.origin == "phantom", manifest.storage_dtype
    if phantom:
        made_by = f"made by the phantom generator ({describe('phantom', manifest.origin_detail)})"
        yield f"note: this data was {made_by}, not from KiTS19: it cannot match the published table"
    if stored != MLPERF_STORAGE_DTYPE:
        table = f"the published table, which is of {MLPERF_STORAGE_DTYPE} files"
        labels = "" if phantom else "; labels still must"
        yield f"note: images were stored as {stored} on purpose: they cannot match {table}{labels}"
