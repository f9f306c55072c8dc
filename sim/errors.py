"""What a user can mend: every error of this kind ends a command with exit code 2 and without a traceback."""


class UserError(Exception):
    """The input is wrong; the message says what, where, and what to do."""
