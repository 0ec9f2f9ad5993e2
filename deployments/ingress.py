"""The ingress: the HTTP service of :mod:`tunelab.service`, on the graph's handles."""

from __future__ import annotations

import logging

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from deployments.pipeline import GraphPipeline
from tunelab.encoder.bundle import find_bundle
from tunelab.service.app import create_app


class IngressStage:
    """Assembles the scored answer.

    Args:
        bundle: name or path; its name and card are shown in answers.
        mel_extractor: handle of the first stage.
        encoder: handle of the second.
        heads: handle of the third.
    """

    def __init__(
        self, bundle: str, mel_extractor: DeploymentHandle, encoder: DeploymentHandle, heads: DeploymentHandle
    ) -> None:
        self._bundle = find_bundle(bundle)
        self._stages = (mel_extractor, encoder, heads)
        _log_with_ray_serve()

    def __serve_build_asgi_app__(self) -> FastAPI:
        # Settings are read from this replica's own environment: the database's password never travels through Ray.
        return create_app(
            lambda: GraphPipeline(self._bundle.name, self._bundle.revision, *self._stages),
            cards=lambda: [{**self._bundle.card}],
        )

    async def check_health(self) -> None:
        """A replica whose event loop turns is healthy: a database that is away is not brought back by a restart."""


def _log_with_ray_serve() -> None:
    """Print the lines of the service where and how Ray Serve prints its own (``logging_config``)."""
    ours, serve = logging.getLogger("tunelab"), logging.getLogger("ray.serve")
    ours.setLevel(serve.level)
    ours.handlers = list(serve.handlers)
    ours.propagate = False
