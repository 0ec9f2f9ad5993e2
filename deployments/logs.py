"""Lines of :mod:`tunelab`, printed as Ray Serve prints its own."""

from __future__ import annotations

import logging


def log_with_ray_serve() -> None:
    """Print the service's lines where and how this process prints Ray Serve's (``logging_config``)."""
    ours, serve = logging.getLogger("tunelab"), logging.getLogger("ray.serve")
    ours.setLevel(serve.level)
    ours.handlers = list(serve.handlers)
    ours.propagate = False
