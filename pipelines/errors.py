"""The one error of this room."""


class DataError(ValueError):
    """The data, or the machine's room for it, does not allow what was asked.

    The message is one clear sentence for the user: what was found, what was expected, what to do. A
    loader raises it with this message whichever process met the fault.
    """
