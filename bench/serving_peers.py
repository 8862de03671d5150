"""The servers that bench/serving.py puts beside Snellen: python serving_peers.py NAME RUN PORT.

in-process      the Predictor alone, fed over the barest HTTP there is: what a server could reach at most
fastapi-torch   FastAPI and torch as tutorials write it: one picture a call, the network of the bundle's backbone
litserve-torch  LitServe with batches of 8 on that network
litserve        LitServe with batches of 8 on the same Predictor as Snellen
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Iterator

from fastapi import UploadFile

from snellen.inference.load import load_bundle


def serve_in_process(run: str, port: int) -> None:
    predictor = load_bundle(run)
    waiting: queue.Queue[tuple[bytes, asyncio.Future[bytes]]] = queue.Queue()
    loop = asyncio.new_event_loop()

    def work() -> None:
        taken: list[asyncio.Future[bytes]] = []

        def take() -> Iterator[bytes]:
            picture, answer = waiting.get()
            taken.append(answer)
            yield picture
            while len(taken) < 32 and not waiting.empty():
                picture, answer = waiting.get()
                taken.append(answer)
                yield picture

        while True:
            taken.clear()
            for answer, prediction in zip(taken, list(predictor.iterate(take())), strict=True):
                loop.call_soon_threadsafe(answer.set_result, prediction.model_dump_json().encode())

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                begin, end = body.index(b"\r\n\r\n") + 4, body.rindex(b"\r\n--")
                told: asyncio.Future[bytes] = loop.create_future()
                waiting.put((body[begin:end], told))
                text = await told
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    threading.Thread(target=work, daemon=True).start()
    loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", port, limit=1 << 24))
    loop.run_forever()


def serve_fastapi_torch(run: str, port: int) -> None:
    import uvicorn
    from fastapi import FastAPI
    from serving_torch import TorchNetwork

    network = TorchNetwork(run)
    app = FastAPI()

    @app.post("/predict")
    def predict(images: UploadFile) -> dict[str, float]:
        return network.name(network.predict(network.prepare(images.file)[None])[0])

    uvicorn.run(app, port=port, log_level="error")


def serve_litserve(run: str, port: int, *, is_torch: bool = False) -> None:
    import litserve
    from serving_litserve import Api, TorchApi

    api = (TorchApi if is_torch else Api)(max_batch_size=8, batch_timeout=0.005)
    api.run = run
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(port=port, host="127.0.0.1", log_level="error", generate_client_file=False)


SERVERS = {
    "in-process": serve_in_process,
    "fastapi-torch": serve_fastapi_torch,
    "litserve-torch": lambda run, port: serve_litserve(run, port, is_torch=True),
    "litserve": serve_litserve,
}

if __name__ == "__main__":
    name, run, port = sys.argv[1:]
    SERVERS[name](run, int(port))
