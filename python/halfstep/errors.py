"""What halfstep raises."""

__all__ = ["Error", "InputError"]


class Error(RuntimeError):
    """The work failed: a full disk, a training that diverged, a device that is gone.

    Attributes:
        expected: what was required.
        got: what was found.
        hint: what to do about it; empty where nothing can be said.
    """

    def __init__(self, expected, got="", hint=""):
        super().__init__(expected, got, hint)
        self.expected, self.got, self.hint = expected, got, hint

    def __str__(self):
        return f"expected {self.expected}, got {self.got}" + (f"\nHint: {self.hint}" if self.hint else "")


class InputError(Error, ValueError):
    """The call, a file or the data was wrong: whoever calls can mend it. Has the attributes of Error."""
