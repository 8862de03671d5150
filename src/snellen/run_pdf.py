"""`--pdf`: the report printed by a browser that is already there, without network, profile or window."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from snellen.core.errors import StorageError, UsageError
from snellen.core.progress import say

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
_TIMEOUT_S = 120
# the page is our own file and needs neither a sandbox of its own nor anything from outside
_OPTIONS = ("--headless", "--disable-gpu", "--no-sandbox", "--disable-extensions", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--no-pdf-header-footer")  # fmt: skip


def find_browser() -> str:
    """A Chromium, Chrome or Edge of this machine. Raises UsageError where there is none: asked before any work."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    found = found or next((place for place in _PLACES if Path(place).is_file()), None)
    if found is None:
        raise UsageError(
            "--pdf needs Chromium, Chrome or Edge, and none is found on this machine.",
            "Install one (apt-get install chromium), or leave out --pdf and print the report from any browser.",
        )
    return found


def print_pdf(page: Path, browser: str | None = None) -> Path:
    """Print a report beside itself, `report.html` → `report.pdf`. Raises StorageError where the browser fails."""
    target = page.with_suffix(".pdf")
    target.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="snellen-browser-") as profile:
        command = [
            browser or find_browser(), *_OPTIONS, f"--user-data-dir={profile}", f"--print-to-pdf={target.resolve()}",
            page.resolve().as_uri(),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
            told = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        except (OSError, subprocess.TimeoutExpired) as error:
            told = [str(error)]
    if not target.is_file() or not target.stat().st_size:
        raise StorageError(f"{page} could not be printed: {told[0]}", "The report itself is there: open it and print.")
    say(f"PDF: {target}")
    return target
