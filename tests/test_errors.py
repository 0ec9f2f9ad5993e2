"""The tree of errors: codes for programs, messages for people, fit to cross process borders."""

from __future__ import annotations

import copy
import pickle

import pytest

from tunelab import errors
from tunelab.errors import AudioError, BundleError, PipelineError, TuneLabError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, TuneLabError)]


def test_all_of_the_tree_is_here() -> None:
    assert len(CLASSES) == 26
    for cls in CLASSES:
        assert cls.__name__ in (errors.__doc__ or "") or cls is TuneLabError


def test_codes_are_unique_and_each_class_has_its_own() -> None:
    assert len({cls.code for cls in CLASSES}) == len(CLASSES)
    for cls in CLASSES:
        assert "code" in vars(cls)
        assert cls.code.replace("_", "").isalpha()
        assert cls.code.islower()


@pytest.mark.parametrize("cls", CLASSES)
def test_errors_survive_pickling_and_copying(cls: type[TuneLabError]) -> None:
    error = cls("what was wrong")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert type(again) is cls
        assert again.message == "what was wrong"
        assert str(again) == "what was wrong"
        assert again.code == cls.code


@pytest.mark.parametrize("cls", CLASSES)
def test_one_message_and_nothing_else(cls: type[TuneLabError]) -> None:
    with pytest.raises(TypeError):
        cls()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        cls("one", "two")  # type: ignore[call-arg]


def test_families() -> None:
    assert issubclass(errors.SilentAudio, AudioError)
    assert issubclass(errors.BundleNotFound, BundleError)
    assert issubclass(errors.PipelineTimeout, PipelineError)
    others = (
        errors.SettingsError,
        errors.EngineError,
        errors.TimelineUnsupported,
        errors.CatalogError,
        errors.ClassifierError,
    )
    families = (AudioError, BundleError, PipelineError, *others)
    for cls in CLASSES:
        if cls is not TuneLabError:
            assert sum(issubclass(cls, family) for family in families) == 1
