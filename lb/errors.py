"""Errors that a user can act on."""


class UserError(Exception):
    """A mistake in how the balancer was started.

    The message is one line: what was wrong, what was seen, what to do. It is
    shown without a traceback and ends the process with exit code 2.
    """
