"""The application: ``serve run serve_config.yaml``, or ``serve run deployments.app:build bundle=NAME``."""

# No `from __future__ import annotations`: Ray Serve reads the type of build()'s argument, and needs it unquoted.

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from deployments.encoder import EncoderStage
from deployments.heads import HeadsStage
from deployments.ingress import IngressStage
from deployments.mel_extractor import MelExtractorStage
from tunelab.encoder.bundle import DEFAULT_BUNDLE, find_bundle
from tunelab.settings import load_settings


class AppArgs(BaseModel):
    """What ``args:`` of the configuration may say. Replicas, queues and autoscaling are set per deployment there."""

    model_config = ConfigDict(extra="forbid")

    bundle: str = DEFAULT_BUNDLE
    """Name or path of the model bundle."""
    engine: Literal["auto", "openvino", "torch"] = "auto"
    precision: Literal["auto", "f32", "bf16", "int8"] = "auto"
    encoder_threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """CPU threads of one encoder replica; unset: every core that it may use."""
    decoder_threads: Annotated[int, Field(ge=1, le=64)] = 2
    """Files that one MelExtractor replica decodes at once; best its ``max_ongoing_requests``."""
    max_batch_size: Annotated[int, Field(ge=1, le=256)] = 2
    """Windows that one encoder replica runs at once."""
    batch_wait_timeout_s: Annotated[float, Field(ge=0, le=1)] = 0.002
    """How long the first window of a batch waits for others, in seconds."""


def build(args: AppArgs) -> Application:
    """Join the four deployments by their handles.

    Raises:
        SettingsError: a ``TUNELAB_*`` variable is refused.
        BundleError: there is no such bundle, or it is broken.
    """
    # Nonsense is told here, by one clear error, and not by replicas that die again and again.
    load_settings()
    find_bundle(args.bundle)
    mel_extractor = serve.deployment(MelExtractorStage, name="MelExtractor").bind(
        args.bundle, threads=args.decoder_threads
    )
    encoder = serve.deployment(EncoderStage, name="Encoder").bind(
        args.bundle,
        engine=args.engine,
        threads=args.encoder_threads,
        precision=args.precision,
        max_batch_size=args.max_batch_size,
        batch_wait_timeout_s=args.batch_wait_timeout_s,
    )
    heads = serve.deployment(HeadsStage, name="Heads").bind(args.bundle)
    # The HTTP app is made on the replica (`__serve_build_asgi_app__`): nothing of it has to be pickled.
    ingress = serve.deployment(serve.ingress()(IngressStage), name="Ingress")
    return ingress.bind(args.bundle, mel_extractor, encoder, heads)
