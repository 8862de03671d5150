"""What all routes of one server share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request

from snellen.serve.access import Access
from snellen.serve.budget import Budget
from snellen.serve.limits import Limits
from snellen.serve.logs import log_event
from snellen.serve.measures import Measures
from snellen.serve.models import Models, Served
from snellen.serve.store import Store

if TYPE_CHECKING:
    from snellen.serve.jobs import JobRunner


@dataclass(frozen=True)
class Service:
    """The parts of a running server.

    `pool` decodes, `explaining` draws maps; `bodies` and `pictures` are budgets of the event loop's thread.
    """

    limits: Limits
    store: Store
    models: Models
    access: Access
    measures: Measures
    pool: ThreadPoolExecutor
    explaining: ThreadPoolExecutor
    bodies: Budget
    pictures: Budget
    jobs: JobRunner
    keeps_images: bool


def reload_model(service: Service, name: str) -> Served:
    """Open a bundle anew and say so. Raises RefusedError (404), BundleError; then nothing changed."""
    old = service.models.find(name).predictor.sha256
    served = service.models.reload(name)
    log_event("model_reloaded", model=name, sha256=served.predictor.sha256, before=old)
    return served


def get_service(request: Request) -> Service:
    """The service behind a request."""
    service: Service = request.app.state.service
    return service
