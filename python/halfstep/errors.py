"""The exceptions of halfstep."""

__all__ = ["Error", "InputError"]


class Error(RuntimeError):
    """The operation failed: disk full, training diverged, device lost.

    Attributes:
        expected: what was required.
        got: what was found.
        hint: a remedy; empty if there is none.
    """

    def __init__(self, expected, got="", hint=""):
        super().__init__(expected, got, hint)
        self.expected, self.got, self.hint = expected, got, hint

    def __str__(self):
        return f"expected {self.expected}, got {self.got}" + (f"\nHint: {self.hint}" if self.hint else "")


class InputError(Error, ValueError):
    """Invalid call, file or data: the caller can correct it. Has the attributes of Error."""
