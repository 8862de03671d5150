"""From options to a running service, and what is said when it is ready."""

from __future__ import annotations

import logging
import shlex
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from snellen.core.errors import SnellenError, StorageError, StoreUnavailableError, UsageError
from snellen.core.runtime import count_threads, has_package
from snellen.imaging.picture import limit_decoding
from snellen.serve.access import Access, is_loopback
from snellen.serve.budget import Budget
from snellen.serve.jobs import JobRunner
from snellen.serve.limits import Limits
from snellen.serve.logs import log_event
from snellen.serve.measures import Measures
from snellen.serve.models import Models, read_source
from snellen.serve.service import Service, reload_model
from snellen.serve.store import Store

if TYPE_CHECKING:
    from snellen.serve.run import ServeOptions


def open_service(options: ServeOptions, limits: Limits) -> Service:
    """Open the bundles and the database. Raises BundleError, UsageError, StorageError."""
    limit_decoding(limits.pixels, limits.decoding_bytes)
    measures = Measures()
    pool = ThreadPoolExecutor(count_threads() + 1, thread_name_prefix="decoding")
    models = Models([read_source(text) for text in options.bundles], pool, measures.note_batch)
    try:
        store = Store.open(options.db)
    except StoreUnavailableError as error:  # its own words are for clients of a server that runs
        raise StorageError(
            f"The audit database cannot be opened: {error.reason}.".replace("..", "."),
            "Check --db: a SQLite file, or postgresql+psycopg://user@host/name of a server that runs.",
        ) from error
    try:
        access = Access(store, host=options.host, is_insecure=options.is_insecure)
        _require_keys(options, store)
    except BaseException:
        store.close()
        raise
    pictures = Budget(limits.waiting_pictures, lambda: guess_wait_s(models, pictures.used))
    bodies = Budget(limits.bodies_bytes, lambda: guess_wait_s(models, pictures.used))
    measures.watch(
        "model_info",
        "1 for the bundle that is served.",
        lambda: {(served.name, served.predictor.sha256): 1 for served in models},
        ("model", "sha256"),
    )
    measures.watch(
        "queue_pictures",
        "Pictures that are decoded and not scored.",
        lambda: {(served.name,): served.scorer.waiting for served in models},
        ("model",),
    )
    measures.watch("waiting", "Held by requests: pictures, and bytes of their bodies.",
                   lambda: {("pictures",): pictures.used, ("bytes",): bodies.used}, ("what",))  # fmt: skip
    jobs = JobRunner(store, models, measures, limits, keeps_images=options.keeps_images)
    return Service(
        limits=limits, store=store, models=models, access=access, measures=measures, pool=pool,
        explaining=ThreadPoolExecutor(1, thread_name_prefix="explaining"), bodies=bodies,
        pictures=pictures, jobs=jobs, keeps_images=options.keeps_images,
    )  # fmt: skip


def guess_wait_s(models: Models, n_pictures: int) -> float:
    """How long what is under way will take, by the speed of late."""
    slowest = max((served.scorer.seconds_a_picture for served in models), default=0.1)
    return min(60.0, max(1.0, slowest * n_pictures))


def reload_all(service: Service) -> None:
    """Open all bundles anew, beside the requests; called by a signal."""
    threading.Thread(target=_reload_all, args=(service,), name="reload", daemon=True).start()


def say_start(options: ServeOptions, service: Service, address: tuple[Any, ...]) -> None:
    """Where the server answers and what it serves, for the person who started it."""
    host = "127.0.0.1" if options.host in ("0.0.0.0", "::") else options.host  # noqa: S104  # what was asked
    base = f"http://{f'[{host}]' if ':' in host else host}:{address[1]}"
    width = max(len(served.name) for served in service.models)
    lines = [
        f"Snellen answers at {base}",
        *(
            f"  model     {served.name:<{width}}  {', '.join(served.predictor.classes)}  "
            f"(sha256 {served.predictor.sha256[:12]}…)"
            for served in service.models
        ),
        f"  API       {base}/docs",
        f"  database  {service.store.shown_url}",
        f"  keys      {_describe_keys(options, service)}",
        f"  DICOM     {'read' if has_package('pydicom') else 'not read: pip install ' + repr('snellen[dicom]')}",
        f"  pictures  {'kept beside the database' if options.keeps_images else 'not kept'}",
        "Research use, not a medical device. Ctrl-C ends it, after what is under way.",
    ]
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()
    log_event("started", models=service.models.names, port=address[1])


def _require_keys(options: ServeOptions, store: Store) -> None:
    if options.is_insecure or is_loopback(options.host):
        return
    if not any(key.revoked is None for key in store.list_keys()):
        named = f" --db {shlex.quote(store.shown_url)}" if options.db else ""
        raise UsageError(
            f"--host {options.host} lets other machines in, and there is no valid key.",
            f"Make one: snellen keys add NAME --role predict{named}. Or say --insecure, if the network is trusted.",
        )


def _describe_keys(options: ServeOptions, service: Service) -> str:
    if options.is_insecure:
        return "not asked for (--insecure): whoever reaches the address may do everything"
    if service.access.needs_keys:
        has_valid = any(key.revoked is None for key in service.store.list_keys())
        return "asked for: Authorization: Bearer KEY" + ("" if has_valid else " (all are revoked: snellen keys add)")
    return "not asked for: only this machine is answered (snellen keys add makes the first)"


def _reload_all(service: Service) -> None:
    for name in service.models.names:
        try:
            reload_model(service, name)
        except SnellenError as error:
            log_event("model_not_reloaded", level=logging.ERROR, model=name, reason=error.message, hint=error.hint)
