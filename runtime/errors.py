"""The error a user can act on."""


class RunError(RuntimeError):
    """Something the user gave cannot work; the message is one sentence that says what and what to do."""
