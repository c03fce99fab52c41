"""The one error of this room."""

from collections.abc import Iterator
from contextlib import contextmanager


class DataError(ValueError):
    """The data, or the machine's room for it, does not allow what was asked.

    The message is one clear sentence for the user: what was found, what was expected, what to do. A
    loader raises it with this message whichever process met the fault.
    """


@contextmanager
def naming(what: object) -> Iterator[None]:
    """Put ``what``, the file or case at fault, in front of the message of a DataError raised inside."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{what}: {error}") from error
