"""A customer's own classifiers on embeddings: train one from labels, keep it in a file, ask it about other tracks.

Importing this loads neither PyTorch nor the metrics: the service predicts with it.
"""

from __future__ import annotations

from tunelab.classifier.model import Classifier

__all__ = ["Classifier"]
