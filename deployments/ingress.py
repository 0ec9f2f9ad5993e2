"""The ingress: the HTTP service of :mod:`tunelab.service`, on the graph's handles."""

from __future__ import annotations

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from deployments.logs import log_with_ray_serve
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
        log_with_ray_serve()

    def __serve_build_asgi_app__(self) -> FastAPI:
        # Settings are read from this replica's own environment: the database's password never travels through Ray.
        return create_app(
            lambda: GraphPipeline(self._bundle.name, self._bundle.revision, *self._stages),
            # Under the name that answers give: a bundle may have been renamed since its card was written.
            cards=lambda: [{**self._bundle.card, "name": self._bundle.name}],
        )

    async def check_health(self) -> None:
        """A replica whose event loop turns is healthy: a restart would not bring back a database that is away."""
