"""Every error TuneLab raises on purpose, in one tree.

    TuneLabError
    |- SettingsError              a setting or an argument makes no sense
    |- BundleError                something about a model bundle
    |  |- BundleNotFound
    |  `- BundleInvalid
    |- EngineError                no engine can run the encoder here, or it failed
    |- AudioError                 something about one audio file; never a crash
    |  |- EmptyAudio              no bytes, or no samples
    |  |- AudioTooLarge           more bytes than the limit
    |  |- UnsupportedAudio        not an audio format that TuneLab reads
    |  |- NoAudioStream           a container without sound (a silent film)
    |  |- ProtectedAudio          encrypted (DRM)
    |  |- CorruptAudio            starts like audio, then cannot be decoded
    |  |- ImplausibleAudio        the header claims absurd rates, channels or lengths
    |  |- AudioTooShort           less than the minimum duration
    |  |- AudioTooLong            more than the maximum duration
    |  |- SilentAudio             below -100 dB of full scale in every window looked at: middle, ends, between them
    |  `- DecodeTimeout           decoding took longer than allowed
    |- TimelineUnsupported        the bundle's embedding is not pooled from patches, so it has no course over time
    |- CatalogError               a batch job, or what one wrote, cannot be used as asked
    |- ClassifierError            labels, embeddings or a file of a customer's own classifier make no sense
    `- PipelineError              the pipeline, not the file, is the reason
       |- PipelineOverloaded      every queue is full; try again later
       |- PipelineTimeout         no answer within the time allowed
       |- PipelineUnavailable     a stage is starting, dying or gone
       `- PipelineFailed          a stage has a fault that another try would meet again

Each class has a stable ``code`` (for programs) and takes one message (for people). Messages name what was wrong with
the input; they never hold paths of the machine or secrets. One positional argument keeps every error picklable, so it
crosses process borders unchanged.
"""

from __future__ import annotations


class TuneLabError(Exception):
    """Base of every error that TuneLab raises on purpose."""

    code = "tunelab_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SettingsError(TuneLabError):
    code = "invalid_settings"


class BundleError(TuneLabError):
    code = "bundle_error"


class BundleNotFound(BundleError):
    code = "bundle_not_found"


class BundleInvalid(BundleError):
    code = "bundle_invalid"


class EngineError(TuneLabError):
    code = "engine_error"


class AudioError(TuneLabError):
    code = "audio_error"


class EmptyAudio(AudioError):
    code = "audio_empty"


class AudioTooLarge(AudioError):
    code = "audio_too_large"


class UnsupportedAudio(AudioError):
    code = "audio_unsupported"


class NoAudioStream(AudioError):
    code = "audio_no_stream"


class ProtectedAudio(AudioError):
    code = "audio_protected"


class CorruptAudio(AudioError):
    code = "audio_corrupt"


class ImplausibleAudio(AudioError):
    code = "audio_implausible"


class AudioTooShort(AudioError):
    code = "audio_too_short"


class AudioTooLong(AudioError):
    code = "audio_too_long"


class SilentAudio(AudioError):
    code = "audio_silent"


class DecodeTimeout(AudioError):
    code = "audio_decode_timeout"


class TimelineUnsupported(TuneLabError):
    code = "timeline_unsupported"


class CatalogError(TuneLabError):
    code = "catalog_error"


class ClassifierError(TuneLabError):
    code = "classifier_invalid"


class PipelineError(TuneLabError):
    code = "pipeline_error"


class PipelineOverloaded(PipelineError):
    code = "overloaded"


class PipelineTimeout(PipelineError):
    code = "timeout"


class PipelineUnavailable(PipelineError):
    code = "unavailable"


class PipelineFailed(PipelineError):
    code = "pipeline_failed"
