"""The files of one job: what was sent, what of it is a picture, and the answers so far.

    FOLDER/sent/000001 …   as they came, under names of ours; deleted when the job ends
           pictures.json   the list of pictures, written when all has arrived
           results.jsonl   an answer a line, in the order of the list

Names that clients give stand in the two lists and open no file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from snellen.core.archives import list_entries, open_zip, require_safe
from snellen.core.errors import DataError, PictureError, StorageError
from snellen.core.letters import show_name
from snellen.core.storage import hold_folder, read_json, write_json
from snellen.imaging.kinds import PICTURE_SUFFIXES, find_kind
from snellen.records.bundle import Prediction
from snellen.serve.answering import list_frames
from snellen.serve.limits import Limits

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the second one holds nothing
_KIND_BYTES = 132
# what may be told of a name: its end could be a patient's, as in Jane.Doe
_TOLD_KINDS = (
    ".7z", ".avi", ".avif", ".csv", ".doc", ".docx", ".fda", ".fds", ".gz", ".heic", ".heif", ".htm", ".html", ".j2k",
    ".jp2", ".json", ".jxl", ".md", ".mha", ".mhd", ".mov", ".mp4", ".nii", ".npy", ".npz", ".nrrd", ".oct", ".pdf",
    ".psd", ".rar", ".raw", ".rtf", ".svg", ".tar", ".txt", ".vol", ".xls", ".xlsx", ".xml", ".zip",
)  # fmt: skip
_LIST = "pictures.json"
_RESULTS = "results.jsonl"
_ARCHIVE = Path("the archive")  # in messages: where it lies is nobody's business
# OSError: an entry that is said to begin before the file does
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


@dataclass(frozen=True)
class JobPicture:
    """A picture of a job: file number `sent`, the entry of an archive if it is one, the frame of a DICOM."""

    name: str
    sent: int
    entry: str | None = None
    frame: int | None = None


@dataclass(frozen=True)
class JobList:
    """What a job has to do. `classes` are the columns of its results."""

    classes: tuple[str, ...]
    pictures: tuple[JobPicture, ...]
    left_out: tuple[str, ...] = ()  # kinds of files in archives that are no pictures, such as `.heic`, one each


class JobFiles:
    """The folder of one job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._n_sent = 0
        self._left_out: list[str] = []
        self._opened: tuple[int, BinaryIO, zipfile.ZipFile] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all that belongs to it has arrived."""
        return (self.folder / _LIST).is_file()

    def hold(self) -> contextlib.AbstractContextManager[bool]:
        """Whether no other server that shares the database receives it or works on it, for as long as the block."""
        return hold_folder(self.folder, waits=False)

    def open_sink(self) -> BinaryIO:
        """The next file to be sent, to write to."""
        place = self.folder / "sent"
        place.mkdir(exist_ok=True)
        self._n_sent += 1
        return self._get_path(self._n_sent).open("xb", buffering=1 << 18)

    def write_list(self, names: Sequence[str], classes: Sequence[str], limits: Limits) -> JobList:
        """Find the pictures among the files sent, and note them. Raises DataError for an archive that is unsafe, or
        too many or no pictures.
        """
        pictures: list[JobPicture] = []
        for number, name in enumerate(names, start=1):
            for picture in self._find_pictures(number, name, limits):
                pictures.append(picture)
                if len(pictures) > limits.job_pictures:
                    raise DataError(f"There are more than {limits.job_pictures:,} pictures.", "Send several jobs.")
        if not pictures:
            raise DataError("There is no picture among the files sent.", "Send pictures, or a zip of pictures.")
        found = JobList(tuple(classes), tuple(pictures), tuple(self._left_out))
        write_json(self.folder / _LIST, {"classes": found.classes, "pictures": [asdict(item) for item in pictures]})
        return found

    def read_list(self) -> JobList:
        """Raises StorageError where the list is damaged."""
        content = read_json(self.folder / _LIST)
        try:
            return JobList(tuple(content["classes"]), tuple(JobPicture(**item) for item in content["pictures"]))
        except (KeyError, TypeError) as error:
            raise StorageError(f"{self.folder / _LIST} is damaged.", "Send the job again.") from error

    def read_picture(self, picture: JobPicture, limits: Limits) -> bytes:
        """The bytes of one picture. Raises PictureError where they cannot be read. An archive stays open: `close`."""
        try:
            if picture.entry is None:
                return self._get_path(picture.sent).read_bytes()
            return _read_entry(self._open_archive(picture.sent), picture.entry, limits.picture_bytes)
        except OSError as error:
            raise PictureError(f"the file sent cannot be read: {error.strerror}", "Send the job again.") from error

    def close(self) -> None:
        """Close the archive that was read last."""
        if self._opened is not None:
            self._opened[2].close()
            self._opened[1].close()
            self._opened = None

    def _open_archive(self, number: int) -> zipfile.ZipFile:
        """The archive, opened once for all its pictures: the directory of 20,000 entries takes 0.1 s to read."""
        if self._opened is None or self._opened[0] != number:
            self.close()
            stream = self._get_path(number).open("rb")
            try:
                self._opened = number, stream, open_zip(_ARCHIVE, stream)
            except BaseException:
                stream.close()
                raise
        return self._opened[2]

    def append_results(self, answers: Sequence[Prediction]) -> None:
        """Add answers, on the disk before it returns."""
        with (self.folder / _RESULTS).open("ab") as stream:
            for answer in answers:
                stream.write(answer.model_dump_json().encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def read_results(self) -> Iterator[Prediction]:
        """The answers so far; what a killed server wrote by half is left out."""
        path = self.folder / _RESULTS
        if not path.is_file():
            return
        with path.open("rb") as stream:
            for line in stream:
                try:
                    yield Prediction.model_validate_json(line)
                except ValidationError:
                    return

    def mend_results(self) -> list[Prediction]:
        """The whole answers so far; anything behind them is cut off, so that one can go on."""
        whole = list(self.read_results())
        path = self.folder / _RESULTS
        if path.is_file():
            with path.open("rb+") as stream:
                stream.truncate(sum(len(answer.model_dump_json().encode()) + 1 for answer in whole))
        return whole

    def delete_pictures(self) -> None:
        """Delete what was sent."""
        shutil.rmtree(self.folder / "sent", ignore_errors=True)

    def _get_path(self, number: int) -> Path:
        return self.folder / "sent" / f"{number:06}"

    def _find_pictures(self, number: int, name: str, limits: Limits) -> Iterator[JobPicture]:
        path = self._get_path(number)
        with path.open("rb") as stream:
            begin = stream.read(_KIND_BYTES)
        if begin.startswith(_ZIP):
            yield from self._find_entries(number, limits)
        elif path.stat().st_size > limits.picture_bytes:
            raise DataError(f"File {number} has more than {limits.picture_bytes:,} bytes.", "Scale it down.")
        else:
            content = path.read_bytes() if find_kind(begin) == "DICOM" else begin
            for found in list_frames(name, content):
                yield JobPicture(found.filename, number, frame=found.frame)

    def _find_entries(self, number: int, limits: Limits) -> Iterator[JobPicture]:
        with self._get_path(number).open("rb") as stream, open_zip(_ARCHIVE, stream) as archive:
            entries = list_entries(archive)
            require_safe(_ARCHIVE, entries, limits.archive)
            for entry in entries:
                raw = entry.info.filename
                begin = _peek(archive, raw)
                if not entry.name.lower().endswith(PICTURE_SUFFIXES) and not find_kind(begin):
                    if not _is_of_a_system(entry.name):
                        self._left_out.append(_name_kind(entry.name))
                    continue
                if find_kind(begin) != "DICOM":
                    yield JobPicture(show_name(entry.name), number, raw)
                    continue
                for found in _list_entry_frames(archive, raw, show_name(entry.name), limits):
                    yield JobPicture(found.name, number, raw, found.frame)


def _is_of_a_system(name: str) -> bool:
    """What file managers put beside the files of a person."""
    parts = name.split("/")
    return "__MACOSX" in parts or parts[-1].startswith(".") or parts[-1].lower() in ("thumbs.db", "desktop.ini")


def _name_kind(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return suffix if suffix in _TOLD_KINDS else "of another kind"


def _peek(archive: zipfile.ZipFile, entry: str) -> bytes:
    try:
        with archive.open(entry) as stream:
            return stream.read(_KIND_BYTES)
    except _DAMAGED:
        return b""


def _list_entry_frames(archive: zipfile.ZipFile, entry: str, name: str, limits: Limits) -> Iterator[JobPicture]:
    try:
        content = _read_entry(archive, entry, limits.picture_bytes)
    except PictureError:
        yield JobPicture(name, 0)
        return
    for found in list_frames(name, content):
        yield JobPicture(found.filename, 0, frame=found.frame)


def _read_entry(archive: zipfile.ZipFile, entry: str, most: int) -> bytes:
    try:
        with archive.open(entry) as stream:
            content = stream.read(most + 1)
    except (*_DAMAGED, KeyError, DataError) as error:
        raise PictureError("its entry in the archive is damaged", "Pack the archive again.") from error
    if len(content) > most:
        raise PictureError(f"it has more than {most:,} bytes unpacked", "Scale the picture down.")
    return content
