"""The one exception a user is meant to see. Everything in the package may import this module."""


class YoloproofError(Exception):
    """Bad input, wrong use or a missing part: one line that says what, where and what to do.

    The command line prints the message on stderr without a traceback and exits with status 2.
    """
