"""Files of earlier runs."""

from datetime import datetime
from pathlib import Path


def set_aside(path: Path) -> None:
    """Rename a file that exists, so that its name carries the time it was last written.

    Raises:
        OSError: It cannot be renamed.
    """
    if path.exists():
        stamp = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y%m%d-%H%M%S-%f")
        path.rename(path.with_stem(f"{path.stem}.{stamp}"))
