"""How many pictures a second a server answers, and how late, on loopback: Snellen beside others, on one bundle.

    python bench/serving.py RUN PICTURES [--seconds 20] [--out serving.json] [--only snellen,in-process]

Each server runs in a process of its own, the client in another. `in-process` is the Predictor without HTTP server and
database, fed with the same bytes by the same client over the barest HTTP there is. LitServe comes twice: around torch,
as its users write it, and around the same Predictor, where it cannot answer more than `in-process`. Saturation: as many
connections as fill it, each waiting for its answer. Half load: requests at fixed times, at half the saturation rate,
whoever is late. Run it on a quiet machine: it is the ratio of runs one after the other that counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PEERS = Path(__file__).with_name("serving_peers.py")
SERVERS = ("in-process", "snellen", "fastapi-torch", "litserve-torch", "litserve")
CONNECTIONS = (1, 4, 8, 16, 32)
BOUNDARY = b"snellen-bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path, help="a folder of JPEGs")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(SERVERS))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    pictures = [path.read_bytes() for path in sorted(asked.pictures.rglob("*.jpg"))[:200]]
    found: dict[str, list[dict]] = {}
    for _ in range(asked.repeats):  # in turn, so that what the machine does besides meets all
        for name in asked.only.split(","):
            outcome = measure(name, asked.run, pictures, asked.seconds)
            found.setdefault(name, []).append(outcome)
            print(name, json.dumps(outcome), flush=True)
    report = summarise(found)
    report["machine"] = f"{platform.platform()}, {os.cpu_count()} processors"
    report["pictures"] = {"n": len(pictures), "mean_bytes": round(statistics.mean(map(len, pictures)))}
    text = json.dumps(report, indent=2)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")


def measure(name: str, run: Path, pictures: list[bytes], seconds: float) -> dict:
    """Throughput, and latency of a single client and at half load, in ms."""
    with serve(name, run) as (port, path, process):
        if port is None:
            return {"not_measured": path}
        ask(port, path, pictures, connections=2, seconds=min(2.0, seconds))  # warm
        single = ask(port, path, pictures, connections=1, seconds=seconds / 4)
        full = max(
            (ask(port, path, pictures, connections=n, seconds=seconds / 4) for n in CONNECTIONS[1:]),
            key=lambda outcome: outcome["per_second"],
        )
        before = read_cpu_s(process)
        again = ask(port, path, pictures, connections=full["connections"], seconds=seconds / 4)
        cpu_ms = 1000 * (read_cpu_s(process) - before) / max(1, again["answers"])
        half = ask(port, path, pictures, connections=64, seconds=seconds, rate=full["per_second"] / 2)
    return {
        "per_second": full["per_second"],
        "connections": full["connections"],
        "cpu_ms_a_picture": round(cpu_ms, 2),
        "single_p50_ms": single["p50_ms"],
        "half_p50_ms": half["p50_ms"],
        "half_p99_ms": half["p99_ms"],
        "p99_by_single": round(half["p99_ms"] / max(single["p50_ms"], 0.001), 2),
        "errors": full["errors"] + half["errors"] + single["errors"],
        "answers": full["answers"] + half["answers"] + single["answers"],
    }


def summarise(found: dict[str, list[dict]]) -> dict:
    """Medians, and what Snellen is beside the others."""
    medians = {}
    for name, outcomes in found.items():
        good = [outcome for outcome in outcomes if "per_second" in outcome]
        keys = ("per_second", "cpu_ms_a_picture", "single_p50_ms", "half_p50_ms", "half_p99_ms", "p99_by_single")
        medians[name] = (
            {key: round(statistics.median(outcome[key] for outcome in good), 2) for key in keys}
            | {key: sum(outcome[key] for outcome in good) for key in ("errors", "answers")}
            if good
            else outcomes[0]
        )
    own = medians.get("snellen", {}).get("per_second")
    ratios = {
        name: round(own / outcome["per_second"], 3)
        for name, outcome in medians.items()
        if own and outcome.get("per_second") and name != "snellen"
    }
    return {"medians": medians, "snellen_by": ratios, "runs": found}


@contextlib.contextmanager
def serve(name: str, run: Path) -> Iterator[tuple[int | None, str, int]]:
    """Port and path of a server that is ready; no port, and why, where it cannot be."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        if name == "snellen":
            words = ["-m", "snellen", "serve", f"bench={run}", "--port", str(port), "--db", f"{folder}/audit.db"]
            path = "/v1/models/bench/predict"
        else:
            words, path = [str(PEERS), name, str(run), str(port)], "/predict"
        with Path(folder, "said").open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
            )
        try:
            if wait_for(port, process):
                yield port, path, process.pid
            else:
                told = Path(folder, "said").read_text(errors="replace").strip().splitlines()
                yield None, told[-1] if told else "it did not start", 0
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            with contextlib.suppress(ProcessLookupError):  # LitServe's workers outlive it, and keep a processor busy
                os.killpg(process.pid, signal.SIGKILL)


def read_cpu_s(pid: int) -> float:
    """Processor time of a process and its children, on Linux; it tells more than the clock where others work too."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(read_cpu_s(int(child)) for child in children)


def wait_for(port: int, process: subprocess.Popen) -> bool:
    """Whether something answers within two minutes."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.1)
    return False


def ask(port: int, path: str, pictures: list[bytes], **how: float) -> dict:
    """What a client in a process of its own sees."""
    requests = [make_request(path, picture) for picture in pictures]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(run_client, (port, requests), how)


def make_request(path: str, picture: bytes) -> bytes:
    head = b'--%s\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n' % BOUNDARY
    body = head + picture + b"\r\n--%s--\r\n" % BOUNDARY
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n\r\n"
    ).encode() + body


def run_client(port: int, requests: list[bytes], connections: int, seconds: float, rate: float = 0.0) -> dict:
    return asyncio.run(_run_client(port, requests, connections, seconds, rate))


async def _run_client(port: int, requests: list[bytes], connections: int, seconds: float, rate: float) -> dict:
    begin = time.perf_counter()
    due = iter(range(10**9))
    latencies: list[float] = []
    errors = 0

    async def keep_asking() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            number = next(due)
            # at a fixed rate a request counts from when it was due, however late the server makes the client
            start = begin + number / rate if rate else time.perf_counter()
            if start > begin + seconds or time.perf_counter() > begin + 2 * seconds:
                break
            await asyncio.sleep(max(0.0, start - time.perf_counter()))
            if reader.at_eof():  # the server closed it while nobody asked, as it may
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(requests[number % len(requests)])
                status = await read_answer(reader)
            except (OSError, asyncio.IncompleteReadError, ValueError):
                status = 0
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            if status == 200:
                latencies.append(time.perf_counter() - start)
            else:
                errors += 1
        writer.close()

    await asyncio.gather(*(keep_asking() for _ in range(int(connections))))
    took = time.perf_counter() - begin
    latencies.sort()
    return {
        "connections": connections,
        "per_second": round(len(latencies) / took, 2),
        "p50_ms": round(1000 * latencies[len(latencies) // 2], 2) if latencies else 0.0,
        "p99_ms": round(1000 * latencies[int(0.99 * (len(latencies) - 1))], 2) if latencies else 0.0,
        "answers": len(latencies),
        "errors": errors,
    }


async def read_answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = next(int(line[15:]) for line in lines if line.lower().startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(lines[0].split()[1])


if __name__ == "__main__":
    main()
