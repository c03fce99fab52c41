"""What a run of the closed division checks by itself, before its clock starts and right after."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from preprocess.manifest import MANIFEST_NAME
from preprocess.verify import load_table
from runtime.arguments import RunConfig
from runtime.errors import RunError
from runtime.preflight.batches import batch_findings
from runtime.preflight.data import NoStamp, data_findings, durable
from runtime.preflight.finding import Finding, State
from runtime.preflight.seeds import seed_findings
from runtime.preflight.settings import caches_finding, setting_findings
from runtime.preflight.stamp import COMMAND, FileStamp, Stamp, stamp_path
from runtime.preflight.survey import storage_of

OPEN = "--mlperf_division open logs the run as open"


def insist_closed(config: RunConfig, ranks: int, table: Mapping[str, str] | None = None) -> None:
    """Refuse a run that is not legal in the closed division. Touches no file of the data set.

    Args:
        config: The run.
        ranks: Its processes, evaluation ranks included.
        table: The md5 that every file of the data set should have, by name; None: the published ones.

    Raises:
        RunError: A rule is off, or cannot be judged, as without a stamp.
    """
    stamp: Stamp | NoStamp
    try:
        stamp = Stamp.load(stamp_path(config))
    except RunError as error:
        stamp = NoStamp(str(error), f"run {COMMAND} with the same flags")
    table = load_table() if table is None else table
    off = those_off(
        [
            *setting_findings(config),
            *batch_findings(config, ranks),
            caches_finding(config.caches_cleared),
            *seed_findings(config, (config.seed,)),
            *data_findings(stamp, table, config.loader),
        ]
    )
    if off:
        more = f"; {len(off) - 1} more off" if len(off) > 1 else ""
        raise RunError(
            f"this is no legal run of the closed division: {sentence(off[0])}{more}; "
            f"{COMMAND} with the same flags shows all, {OPEN}"
        )


def insist_unchanged(config: RunConfig) -> None:
    """Refuse to train on data that is not what the stamp is of, by size and modification time.

    Raises:
        RunError: A file has changed, is gone or has come, or lies in memory now. The first is named.
    """
    path = stamp_path(config)
    stamp = Stamp.load(path)
    data_dir = config.loader.data_dir
    for name, file in sorted(stamp.files.items()):
        _insist_unchanged(data_dir / name, file, path)
    expected = {*stamp.files, *stamp.others, MANIFEST_NAME}
    try:
        new = sorted({entry.name for entry in data_dir.iterdir()} - expected)
    except OSError as error:
        raise RunError(f"{data_dir} cannot be listed ({error.strerror})") from error
    if new:
        raise RunError(f"{data_dir / new[0]} was not there when {path} was written: {_again()}")
    mounts = storage_of(data_dir / name for name in stamp.files)
    storage = durable(map(str, mounts), [str(mount) for mount in mounts if mount.in_memory])
    if not storage.legal:
        raise RunError(f"{data_dir} is on {storage.found}, expected durable storage: move it, or {OPEN}")


def _insist_unchanged(path: Path, file: FileStamp, stamp: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise RunError(f"{path} cannot be looked at ({error.strerror}): {_again()}") from error
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        raise RunError(f"{path} has changed since {stamp} was written: {_again()}")


def _again() -> str:
    return f"run {COMMAND} again, or {OPEN}"


def those_off(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that keep a run from the closed division."""
    return [finding for finding in findings if finding.state is State.OFF]


def sentence(finding: Finding) -> str:
    """A finding that is off, and what to do about it."""
    return f"{finding.rule} (required {finding.required}; found {finding.found}): {finding.remedy}"
