"""The MAEST encoder: bundles, the PyTorch module, and the engines that run it."""

from tunelab.encoder.bundle import DEFAULT_BUNDLE, Bundle, find_bundle, list_bundles
from tunelab.encoder.engine import Engine, EngineName, load_engine

__all__ = ["DEFAULT_BUNDLE", "Bundle", "Engine", "EngineName", "find_bundle", "list_bundles", "load_engine"]
