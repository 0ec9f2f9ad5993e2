"""Audio files -> what a classifier says of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import numpy as np

from tunelab.audio.extract import MelExtractor
from tunelab.classifier.model import Classifier
from tunelab.encoder import EngineName, find_bundle, load_engine
from tunelab.errors import AudioError, ClassifierError
from tunelab.types import FloatArray


def check_revision(classifier: Classifier, model: str, revision: str) -> None:
    """Whether embeddings of a bundle are those that the classifier reads.

    Raises:
        ClassifierError: they are not.
    """
    if revision != classifier.revision:
        raise ClassifierError(
            f"the classifier reads embeddings of {classifier.model}, revision {classifier.revision}; these are of "
            f"{model}, revision {revision}: train it again on such embeddings"
        )


def probabilities_of_files(
    classifier: Classifier,
    paths: Iterable[str | os.PathLike[str]],
    *,
    bundle: str | None = None,
    engine: EngineName = "auto",
    threads: int | None = None,
) -> Iterator[tuple[str, FloatArray | AudioError | OSError]]:
    """Embed and classify files, one after the other; a bad one does not stop the others.

    Args:
        classifier: which one.
        paths: of audio files.
        bundle: name or path of the bundle; by default the one that the classifier names. It needs no heads.
        engine: ``auto``, ``openvino`` or ``torch``.
        threads: CPU threads; ``None`` takes every core.

    Yields:
        Path, and float32 ``(classes,)`` in 0..1 or why there is none.

    Raises:
        BundleError: there is no such bundle.
        ClassifierError: it is of another revision than the classifier was trained with.
        EngineError: the engine cannot start, or failed.
    """
    found = find_bundle(bundle or classifier.model)
    check_revision(classifier, found.name, found.revision)
    extract, encode = MelExtractor(found.mel), load_engine(found, engine, threads=threads)
    for path in paths:
        name = os.fspath(path)
        try:
            mel = extract(name).mel
        except (AudioError, OSError) as error:
            yield name, error
            continue
        yield name, classifier.probabilities(encode(mel[np.newaxis]))[0]
