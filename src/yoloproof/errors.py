"""The one exception a user is meant to see, and what of others is shown. Everything in the package may import this module."""


class YoloproofError(Exception):
    """Bad input, wrong use or a missing part: one line that says what, where and what to do.

    The command line prints the message on stderr without a traceback and exits with status 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of what a library says, at most 200 letters; the error's class where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
