"""Bring the stamp of a run's data set up to date."""

from collections.abc import Mapping

from runtime.arguments import RunConfig
from runtime.errors import RunError
from runtime.preflight.data import NoStamp
from runtime.preflight.folder import fault_of_folder
from runtime.preflight.stamp import FileStamp, Stamp, place, stamp_path
from runtime.preflight.survey import survey


def renewed_stamp(config: RunConfig, table: Mapping[str, str], rehash: bool) -> Stamp | NoStamp:
    """The stamp after a look at every file, written to its place; or why there is none.

    Args:
        config: The run.
        table: The published md5 of every file, by name.
        rehash: Read files too that have size and time of the stamp that is there.
    """
    path, data_dir = stamp_path(config), config.loader.data_dir
    # Before the data set is read, which takes minutes.
    if fault := fault_of_folder(path.parent):
        return NoStamp(fault, "pass another --mlperf_stamp or --log_dir, or mend its permissions")
    known: Mapping[str, FileStamp] = {}
    if path.exists() and not rehash:
        try:
            earlier = Stamp.load(path)
            known = earlier.files if earlier.data_dir == place(data_dir) else {}
        except RunError as error:
            print(f"note: {error}: every file is read again")
    try:
        stamp = survey(data_dir, table, known)
        stamp.save(path)
    except RunError as error:
        return NoStamp(str(error), "pass the --results_dir of preprocess_dataset.py as --data_dir")
    except OSError as error:
        return NoStamp(f"{path} cannot be written ({error.strerror})", "mend that")
    print(f"stamp: {path}")
    return stamp
