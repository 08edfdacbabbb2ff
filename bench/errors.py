"""Errors that a user can act on."""


class UserError(Exception):
    """A mistake, or a state of the machine, that the user can correct.

    The message is one line: what was wrong, what was seen, what to do. It is shown without a
    traceback, and ends the run with a non-zero exit code.
    """
