"""What every command shares: streams that hold any text, steps told on standard error, errors with exit code 2."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import typer

from snellen.core.errors import SnellenError
from snellen.core.interrupts import heed_interrupts, prefer_interrupt
from snellen.core.letters import reveal
from snellen.core.progress import Plain


def mend_streams() -> None:
    """A terminal that lacks a letter shows its code; what is said into a closed stream goes nowhere."""
    sys.stdout = sys.stdout or _open_nowhere()
    sys.stderr = sys.stderr or _open_nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def close_streams() -> None:
    """Write what waits in the streams; what cannot be written ends the command with 2, not in Python's shutdown."""
    lost = False
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except BrokenPipeError:
            _turn_away(number)
        except (OSError, ValueError):
            lost = True
            _turn_away(number)
    if lost:
        raise SystemExit(2)


def _lost_stream() -> bool:
    """Whether a stream of ours cannot be written: what it did not take still waits in it, or nothing can wait."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            return True
        with contextlib.suppress(OSError, ValueError):  # a stream that is no file of the system's
            number = stream.fileno()
            try:
                os.write(number, b"")
            except OSError:
                return True
    return False


def _turn_away(number: int) -> None:
    """From now on what is written to this stream goes nowhere, so that Python's last flush of it succeeds."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def _open_nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


@contextlib.contextmanager
def told(*, quiet: bool = False) -> Iterator[None]:
    """Errors of the user's end with exit code 2 and what to do; steps are told on standard error."""
    logger = logging.getLogger("snellen")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Plain("%(message)s"))
    if not quiet:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        with heed_interrupts(), prefer_interrupt():
            yield
    except SnellenError as error:
        typer.echo(reveal(f"Error: {error}"), err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stopped:
        notes = getattr(stopped, "__notes__", [])  # how to go on, where somebody knows
        typer.echo(reveal("\n".join(["Stopped. What is computed is kept.", *notes])), err=True)
        raise typer.Exit(130) from None
    except BrokenPipeError:
        raise typer.Exit(0) from None
    except OSError as error:
        if error.filename is None and _lost_stream():
            raise  # `main` tells it: neither the disk nor the cache is full, but what the output goes to
        from snellen.core.storage import explain_os_error

        typer.echo(f"Error: {explain_os_error(error, Path(error.filename or 'output'))}", err=True)
        raise typer.Exit(2) from error
    except RuntimeError as error:
        if "home directory" not in str(error):  # what pathlib says of `~nobody/x`, and where there is no home
            raise
        typer.echo(
            "Error: there is no home folder for a path that begins with ~ (of that user, if ~NAME), or for the cache.\n"
            "  → Name full paths, also --cache; a file whose own name begins with ~ is ./~NAME.",
            err=True,
        )
        raise typer.Exit(2) from error
    except ModuleNotFoundError as error:
        _explain_missing_module(error)
        raise typer.Exit(2) from error
    finally:
        logger.removeHandler(handler)


def _explain_missing_module(error: ModuleNotFoundError) -> None:
    name = (error.name or "").split(".")[0]
    if name in ("", "snellen"):
        raise error
    typer.echo(f"Error: this step needs {name}, which is not installed.\n  → pip install 'snellen[train]'", err=True)
