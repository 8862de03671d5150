"""What can go wrong, as one tree. Every error has a stable code, says what and where, and what to do.

SnellenError                    the user can act on it: exit code 2
├── UsageError                  an option, a recipe key or a command that does not fit
│   ├── InputError              what was given to ImageClassifier has the wrong shape, length or range
│   └── InputTypeError          what was given to ImageClassifier is of the wrong kind
├── DataError                   the pictures, labels, patients or splits do not allow the step
│   └── PictureError            one picture cannot be read; a cohort goes on without it
├── WeightsError                pretrained weights are missing, damaged or of another network
├── BundleError                 a bundle is incomplete, altered or of another version
│   └── ParityError             two forms of a model disagree beyond the stated tolerance
├── FetchError                  a data set cannot be downloaded, or what arrived is not the published file
└── StorageError                disk full, no permission, a damaged file of ours
    └── StoreUnavailableError   the audit database cannot take a row just now
"""

from __future__ import annotations


class SnellenError(Exception):
    """Base of all errors that a user can act on.

    `message` says what is wrong and where, with the offending value; `hint` says what to do.
    """

    code = "snellen_error"

    def __init__(self, message: str, hint: str = "", *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


class UsageError(SnellenError):
    """An option, a recipe key or a command does not fit."""

    code = "usage"


class InputError(UsageError, ValueError):
    """What was given to ImageClassifier has the wrong shape, length or range. A ValueError, as scikit-learn expects."""

    code = "input"


class InputTypeError(UsageError, TypeError):
    """What was given to ImageClassifier is of the wrong kind. A TypeError, as scikit-learn expects."""

    code = "input_type"


class DataError(SnellenError):
    """The pictures, labels, patients or splits do not allow the step."""

    code = "data"


class PictureError(DataError):
    """One picture cannot be read; a cohort goes on without it."""

    code = "unreadable_picture"


class WeightsError(SnellenError):
    """Pretrained weights are missing, damaged or of another network."""

    code = "weights"


class BundleError(SnellenError):
    """A bundle is incomplete, altered or of another version."""

    code = "bundle"


class ParityError(BundleError):
    """Two forms of a model disagree beyond the stated tolerance."""

    code = "parity"


class FetchError(SnellenError):
    """A data set cannot be downloaded, or what arrived is not the published file."""

    code = "fetch"


class StorageError(SnellenError):
    """The disk is full, a folder may not be written, or a file of ours is damaged."""

    code = "storage"


class StoreUnavailableError(StorageError):
    """The audit database cannot take a row just now: it is not reached, or its disk is full.

    `message` and `hint` may be told to any client; `reason` says more, and is for the operator only.
    """

    code = "store_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(
            "The audit database cannot record just now, and nothing is predicted unrecorded.",
            "Try again in a moment: the server goes on by itself once its database is back.",
        )
        self.reason = reason


def require_no_problems(problems: list[str], summary: str, hint: str = "") -> None:
    """Raise one DataError that lists all `problems`; return quietly when there is none."""
    if problems:
        listed = "\n".join(f"  • {problem}" for problem in problems)
        raise DataError(f"{summary}\n{listed}", hint)
