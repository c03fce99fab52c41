"""Find the raw cases, convert them in parallel, keep the manifest and report."""

import re
from pathlib import Path

from tqdm import tqdm

from preprocess import pool
from preprocess.errors import UsageError
from preprocess.files import exclusive
from preprocess.origin import open_manifest, read_origin, storage_note
from preprocess.outcomes import Outcomes
from preprocess.spec import MAX_CASE_ID, MLPERF_STORAGE_DTYPE, StorageDtype
from preprocess.task import CaseTask, work

BYTES_PER_WORKER = 1 << 30
"""What one worker may need: the largest KiTS19 case (611 x 512 x 512) keeps about 0.4 GB after the first two
axes, to which come its label, the libraries and the file that is being written."""

_CASE = re.compile(r"case_(\d+)")
_CASE_FOLDERS = (".", "data", "kits19/data")


def find_cases(data_dir: Path) -> list[Path]:
    """The ``case_*`` folders in ``data_dir``, ``data_dir/data`` or ``data_dir/kits19/data``, sorted.

    Raises:
        UsageError: there is no such folder, or none holds a case.
    """
    if not data_dir.is_dir():
        raise UsageError(f"{data_dir} is not a folder; give the raw KiTS19 cases as --data_dir")
    for folder in (data_dir / name for name in _CASE_FOLDERS):
        if folder.is_dir():
            cases = sorted(path for path in folder.iterdir() if _CASE.fullmatch(path.name) and path.is_dir())
            if cases:
                return cases
    raise UsageError(
        f"no case_* folder in {data_dir}, {data_dir / 'data'} or {data_dir / 'kits19/data'}; "
        "download KiTS19, or make cases with python -m preprocess.phantom"
    )


def convert(
    data_dir: Path, results_dir: Path, workers: int, storage_dtype: StorageDtype = MLPERF_STORAGE_DTYPE
) -> int:
    """Convert every case below 210 of ``data_dir`` into ``results_dir``, images as ``storage_dtype``.

    Cases that the manifest of ``results_dir`` proves complete and correct are kept. A case that cannot be
    converted is named on stderr and does not stop the others.

    Returns:
        The exit status: 0 when every case is there, 1 when one is not.

    Raises:
        UsageError: the run cannot start.
        KeyboardInterrupt: after the workers have stopped and their unfinished files are gone.
    """
    cases = find_cases(data_dir)
    wanted = [case for case in cases if int(case.name.split("_")[1]) < MAX_CASE_ID]
    for case in cases:
        if case not in wanted:
            print(f"{case.name}: skipped, cases from {MAX_CASE_ID} up have no public segmentation")
    if not wanted:
        raise UsageError(f"{data_dir} holds no case below {MAX_CASE_ID}")
    with exclusive(results_dir):
        manifest, note = open_manifest(results_dir, *read_origin(wanted[0].parent), storage_dtype)
        for line in filter(None, (note, storage_note(storage_dtype))):
            print(line)
        tasks = [CaseTask(case, results_dir, manifest.cases.get(case.name), storage_dtype) for case in wanted]
        outcomes = Outcomes(results_dir, manifest, workers)
        # The bar goes to stderr; redraws around what is printed keep both readable.
        with tqdm(total=len(tasks), unit="case") as bar:
            for task, future in pool.run(work, tasks, workers, preload=["preprocess.case"]):
                outcomes.take(task, future)
                bar.update()
        return outcomes.report()
