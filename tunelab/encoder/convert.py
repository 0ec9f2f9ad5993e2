"""Trace a bundle's encoder with PyTorch and write it as an OpenVINO graph: ``python -m tunelab.encoder.convert``.

The graph takes a log-mel window and gives its embedding. Where that is the mean of the patches, it also takes what is
added to the attention's scores (zeros for an embedding) and gives the means of the patches' columns.

A process of its own does this, so that a server which converts at its first start does not keep PyTorch's 500 MB.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

from tunelab.encoder.bundle import Bundle
from tunelab.encoder.columns import column_grid
from tunelab.errors import BundleError, BundleInvalid, EngineError

_REFUSED = 3
"""Exit code of the child when the bundle is at fault; its message is then on standard output."""


def convert(bundle: Bundle, graph: Path) -> None:
    """Convert in a child process.

    Args:
        bundle: which model.
        graph: the ``.xml`` to write; the weights, in half precision, go beside it.

    Raises:
        BundleInvalid: the weights do not fit.
        EngineError: the conversion failed.
    """
    command = [sys.executable, "-m", "tunelab.encoder.convert", str(bundle.path), str(graph)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode == _REFUSED:
        raise BundleInvalid(done.stdout.strip())
    if done.returncode:
        raise EngineError(f"{bundle.name} could not be converted for OpenVINO: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "the process was killed"


def _trace(bundle: Bundle, graph: Path) -> None:
    import torch

    from tunelab.encoder._openvino import ov
    from tunelab.encoder.maest import load_maest

    encoder = load_maest(bundle)
    shapes = [[1, bundle.mel.max_length, bundle.mel.num_mel_bins]]
    if bundle.pooling.pooling == "mean":
        tokens = column_grid(bundle).tokens
        shapes.append([1, 1, tokens, tokens])
        encoder.forward = encoder.with_columns  # type: ignore[method-assign,assignment]
    with torch.no_grad(), warnings.catch_warnings():
        # The tracer warns of Python branches on shapes; shapes are fixed here.
        warnings.simplefilter("ignore")
        model = ov.convert_model(encoder, example_input=tuple(map(torch.zeros, shapes)), input=shapes)
    ov.save_model(model, graph, compress_to_fp16=True)


if __name__ == "__main__":
    try:
        _trace(Bundle.open(Path(sys.argv[1])), Path(sys.argv[2]))
    except BundleError as error:
        sys.stdout.write(error.message)
        sys.exit(_REFUSED)
