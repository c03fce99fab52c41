"""The errors of this room."""

from collections.abc import Iterator
from contextlib import contextmanager


class DataError(ValueError):
    """The data, or the machine's room for it, does not allow what was asked.

    The message is one clear sentence for the user: what was found, what was expected, what to do. A
    loader raises it with this message whichever process met the fault.
    """


class CaseError(DataError):
    """The fault is one case's, so that a run can go on without it: see ``--on_bad_case``."""


@contextmanager
def naming(what: object) -> Iterator[None]:
    """Put ``what``, the file or case at fault, in front of the message of a DataError raised inside; a
    CaseError stays one."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{what}: {error}") from error
