"""Puts :mod:`tunelab.service.front` into Ray Serve's proxies.

Ray calls it where ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deployments.front:middlewares`` is set when it starts;
``tunelab serve`` sets it.
"""

from __future__ import annotations

from starlette.middleware import Middleware

from deployments.logs import log_with_ray_serve
from tunelab.service.front import FrontMiddleware
from tunelab.settings import load_settings


def middlewares() -> list[Middleware]:
    """What Ray Serve's proxy puts around itself."""
    log_with_ray_serve()  # the proxy's own log is set up by now
    return [Middleware(FrontMiddleware, settings=load_settings())]
