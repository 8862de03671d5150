"""What one request, and all of them together, may ask of the server."""

from __future__ import annotations

from dataclasses import dataclass

from snellen.core.archives import ArchiveLimits


@dataclass(frozen=True)
class Limits:
    """Bytes, pictures, pixels and seconds. The defaults keep a server below 1 GB of memory whatever it is sent."""

    picture_bytes: int = 50_000_000
    request_bytes: int = 100_000_000
    bodies_bytes: int = 160_000_000  # of all requests that are being received or answered
    pictures: int = 64  # of one request, frames of a DICOM counted singly
    pixels: int = 120_000_000  # told by the header, before anything is decoded
    decoding_bytes: int = 450_000_000  # of all large pictures that are decoded at once
    waiting_pictures: int = 256
    receive_s: float = 60.0
    answer_s: float = 60.0
    drain_s: float = 30.0
    header_s: float = 15.0
    job_bytes: int = 4_000_000_000
    job_pictures: int = 20_000
    jobs: int = 32  # that are not finished yet
    page_rows: int = 1000

    @property
    def archive(self) -> ArchiveLimits:
        """What a zip of a job may hold."""
        return ArchiveLimits(
            entries=self.job_pictures, total_bytes=2 * self.job_bytes, ratio_from_bytes=self.picture_bytes // 2
        )


LIMITS = Limits()
