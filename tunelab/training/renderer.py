"""Draw training clips from the corpus: 30 s of audio, and what is known by construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from tunelab.errors import SettingsError
from tunelab.training.augment import DRIVEN, EQUALISER_HZ, as_recorded, end_band, equalise
from tunelab.training.corpus import package_number
from tunelab.training.festival import key_of_song
from tunelab.training.kinds import ACOUSTIC_SCORE, ELECTRONIC_SCORE, KIND_WEIGHTS, KINDS, LAYERED, NO_VOICE
from tunelab.training.rap import beats_of, grid_of, rap
from tunelab.training.scores import ACOUSTIC, ELECTRONIC
from tunelab.training.speech import speaker_of
from tunelab.training.synthetic_voices import PREFIX as SYNTHETIC
from tunelab.training.tonality import MINOR, key_of
from tunelab.training.voice import SAMPLE_RATE, Vocal, mix, reverberate, rms, sing, take_apart
from tunelab.types import FloatArray

CLIP_SAMPLES = 30 * SAMPLE_RATE
DENSE_STEP = 10_240
"""Samples per row of the teacher's dense feature: 0.64 s."""
DENSE_ROWS = 46
LAYER_DB = (-12.0, 0.0)
"""Level of the second track of a layered clip over the first."""
RAP_IS_SPEECH = 0.5
"""How much of a rapped voice counts as spoken: rap lies between songs and spoken word, as users know the scale."""
SYNTHETIC_SHARE = 0.25
"""How often at most a voice is a synthetic one."""
SONG_SHARE = 0.15
"""How often a singer is one of :mod:`tunelab.training.festival`, where there are any."""
VOCALS = 24
"""Taken-apart speech that is kept, to be sung again to another melody."""
BAND_SHARE, BAND_HZ = 0.35, (3500.0, 7900.0)
"""How many training clips lose the top of their band, and where it may end: recordings of 8 to 16 kHz that were stored
at higher rates, and codecs at low bit rates."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One rendered clip; ``voice`` and ``speech`` are the loudness shares 0..1 of any voice and of spoken voice.

    ``package`` is the music's :func:`tunelab.training.corpus.package_number`, or -1. Half of a rapped voice counts as
    spoken. ``heard`` is what the student gets: ``samples``, which the teachers judge, but for the top of the band in
    some.
    """

    samples: FloatArray
    heard: FloatArray
    kind: int
    package: int
    voice: float
    speech: float
    activity: FloatArray
    """Share of the voice for each 0.64 s, shape ``(46,)``."""


class Renderer:
    """Draws clips of one split at random from a manifest.

    Args:
        manifest: the Parquet file of :func:`tunelab.training.corpus.build_manifest`.
        root: the corpus folder that its paths are relative to.
        split: ``train`` or ``heldout``.
        seed: everything random follows from it, or from them.
        shares: how often each of :data:`KINDS` is drawn, relative to the others; those left out are not, nor are
            layers in any split but ``train``.

    Raises:
        SettingsError: nothing is left to draw.
    """

    def __init__(
        self,
        manifest: Path,
        root: Path,
        split: str,
        seed: int | Sequence[int],
        shares: Mapping[str, float] = KIND_WEIGHTS,
    ) -> None:
        import pandas as pd

        table = pd.read_parquet(manifest)
        table = table[table.split == split]
        self._root, self._rng, self._augment = root, np.random.default_rng(seed), split == "train"
        self._music = [group for _, group in table[table.kind == "music"].groupby("package")]
        # Packages by the square root of their size: a big one must not drown the others.
        self._shares = np.sqrt([len(group) for group in self._music])
        self._shares /= self._shares.sum()
        speech = table[table.kind == "speech"]
        speakers = [group for _, group in speech.groupby([speaker_of(path) for path in speech.path])]
        self._speakers = [list(group.path) for group in speakers]
        self._speaker_shares = np.sqrt([group.seconds.sum() for group in speakers])
        self._speaker_shares = limit_share(
            self._speaker_shares, np.array([str(group.path.iloc[0]).startswith(SYNTHETIC) for group in speakers], bool)
        )
        self._songs = [(path, *key_of_song(path)) for path in table[table.kind == "singing"].path]
        self._vocals: list[Vocal] = []
        shares = {kind: share for kind, share in shares.items() if self._augment or kind != LAYERED}
        if not shares:
            raise SettingsError(f"{LAYERED} clips are for training alone")
        self._kinds = list(shares)
        self._kind_shares = np.array(list(shares.values())) / sum(shares.values())

    def clip(self) -> Clip:
        """Draw the next clip."""
        rng = self._rng
        name, package = str(rng.choice(self._kinds, p=self._kind_shares)), ""
        kind = KINDS[name]
        music = np.zeros(CLIP_SAMPLES, np.float32)
        if "music" in name or name == LAYERED:
            music, package = self._draw_music()
        if name == LAYERED:
            music = mix(music, self._draw_music()[0], rng.uniform(*LAYER_DB))
        voice, level = np.zeros(CLIP_SAMPLES, np.float32), 0.0
        if name not in NO_VOICE:
            match name.split("+")[0]:
                case "speech":
                    voice = self._speech(30.0)
                case "sung":
                    voice = self._singing(music)
                case _:
                    voice = self._rapping(music)
            if rng.random() < 0.5:
                voice = reverberate(voice, rng)
            level = rng.uniform(-8, 9)
        samples = mix(music, voice, level) if name.endswith("+music") else music + voice
        if self._augment and rng.random() < 0.5:
            samples = equalise(samples, rng.uniform(-6, 6, len(EQUALISER_HZ)))
        share = 0.0 if name in NO_VOICE else 1.0 if "music" not in name else float(1 / (1 + 10 ** (-level / 10)))
        steps = voice[: DENSE_ROWS * DENSE_STEP].reshape(DENSE_ROWS, DENSE_STEP)
        loud = np.sqrt(np.square(steps).mean(axis=1)) > 0.1 * max(rms(voice), 1e-9)
        # The teachers hear what the student hears: a peak of 1.
        samples = samples / np.float32(max(float(np.abs(samples).max()), 1e-6))
        speech = share if "speech" in name else RAP_IS_SPEECH * share if "rapped" in name else 0.0
        if name == "music" and package.startswith((ACOUSTIC, ELECTRONIC)):
            kind = ACOUSTIC_SCORE if package.startswith(ACOUSTIC) else ELECTRONIC_SCORE
        heard = samples
        if self._augment and rng.random() < BAND_SHARE:
            heard = end_band(samples, rng.uniform(*BAND_HZ))
        number = package_number(package) if package else -1
        return Clip(samples, heard, kind, number, share, speech, (loud * share).astype(np.float32))

    def _draw_music(self) -> tuple[FloatArray, str]:
        for _ in range(20):
            group = self._music[int(self._rng.choice(len(self._music), p=self._shares))]
            row = group.iloc[int(self._rng.integers(len(group)))]
            samples = self._read(row.path, float(self._rng.uniform(0, max(row.seconds - 31, 0))), 37.5)
            if samples.size and rms(samples) > 1e-3:
                music = np.resize(samples, CLIP_SAMPLES)
                if self._augment:
                    # What is known to be acoustic stays so.
                    driven = 0.0 if row.package.startswith(ACOUSTIC) else DRIVEN
                    music = as_recorded(music, self._rng, driven=driven)
                return music, str(row.package)
        raise RuntimeError("twenty tracks in a row could not be read")

    def _read(self, path: str, start_s: float, seconds: float) -> FloatArray:
        """Mono at 16 kHz; in training the speed is varied by a fifth, as a tape would."""
        try:
            with sf.SoundFile(self._root / path) as file:
                file.seek(int(start_s * file.samplerate))
                audio = file.read(int(seconds * file.samplerate), dtype="float32", always_2d=True).mean(axis=1)
                rate = file.samplerate * (self._rng.uniform(0.81, 1.23) if self._augment else 1.0)
        except sf.LibsndfileError:
            return np.zeros(0, np.float32)
        resampled: FloatArray = soxr.resample(audio, rate, SAMPLE_RATE, quality="MQ")
        return resampled[: int((seconds - 7) * SAMPLE_RATE)] if seconds > 20 else resampled

    def _speech(self, seconds: float) -> FloatArray:
        """Recordings of one speaker joined with short pauses."""
        need = int(seconds * SAMPLE_RATE)
        paths = self._speakers[int(self._rng.choice(len(self._speakers), p=self._speaker_shares))]
        parts: list[FloatArray] = []
        while sum(map(len, parts)) < need:
            part = self._read(str(paths[int(self._rng.integers(len(paths)))]), 0.0, 15.0)
            parts += [part, np.zeros(int(self._rng.uniform(0.05, 0.5) * SAMPLE_RATE) + 1, np.float32)]
        return np.concatenate(parts)[:need]

    def _vocal(self) -> Vocal:
        """One of the voices that were taken apart, or a new one."""
        # Taking a voice apart is slow: it is done for some clips only, and each vocal is heard again, differently.
        if len(self._vocals) < 4 or self._rng.random() < 0.25:
            self._vocals = [*self._vocals[-(VOCALS - 1) :], take_apart(self._speech(9.0))]
        return self._vocals[int(self._rng.integers(len(self._vocals)))]

    def _rapping(self, music: FloatArray) -> FloatArray:
        """30 s of one rapper in time with the music."""
        grid = grid_of(beats_of(music, SAMPLE_RATE), CLIP_SAMPLES / SAMPLE_RATE, self._rng)
        spoken = rap(self._vocal(), self._rng, grid)
        return np.pad(spoken, (0, CLIP_SAMPLES))[:CLIP_SAMPLES]

    def _singing(self, music: FloatArray) -> FloatArray:
        """30 s of one singer: a phrase and a rest, repeated, mostly in the key of the music."""
        rng = self._rng
        key = key_of(music, SAMPLE_RATE) if music.any() and rng.random() < 0.8 else None
        festival = self._songs and rng.random() < SONG_SHARE
        phrase = self._song(key) if festival else sing(self._vocal(), rng, key)
        rest = np.zeros(int(rng.uniform(0.0, 5.0) * SAMPLE_RATE), np.float32)
        whole = np.concatenate([phrase, rest])
        return np.roll(np.resize(whole, CLIP_SAMPLES), int(rng.integers(CLIP_SAMPLES)))

    def _song(self, key: tuple[float, tuple[int, ...]] | None) -> FloatArray:
        """A song of a synthetic singer; one in the given key, tuned to it, where there is such a one."""
        songs, shift = self._songs, 0.0
        if key is not None:
            tonic, minor = key[0], key[1] == MINOR
            near = [song for song in songs if (song[2] == "minor") == minor and round(tonic - song[1]) % 12 == 0]
            if near:
                songs = near
                shift = (tonic - near[0][1] + 6) % 12 - 6
        path = songs[int(self._rng.integers(len(songs)))][0]
        audio, rate = sf.read(self._root / path, dtype="float32")
        sung: FloatArray = soxr.resample(audio, rate * 2 ** (shift / 12), SAMPLE_RATE, quality="MQ")
        return sung


def limit_share(weights: npt.NDArray[np.float64], synthetic: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Weights of speakers as shares that sum to 1, of which synthetic ones have no more than :data:`SYNTHETIC_SHARE`.

    Without people, or without synthetic voices, each keeps what it weighs.
    """
    shares = weights / weights.sum()
    robots, people = shares[synthetic].sum(), shares[~synthetic].sum()
    if people and robots > SYNTHETIC_SHARE:
        shares = np.where(synthetic, shares / robots * SYNTHETIC_SHARE, shares / people * (1 - SYNTHETIC_SHARE))
    return np.asarray(shares)
