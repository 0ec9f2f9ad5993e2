from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from tunelab.training.corpus import build_manifest
from tunelab.training.speech import DECODED, decode_prompts, find_prompts, language_of, speaker_of

PACKAGE = "asterisk-core-sounds-fr-g722"


def _prompt(path: Path, seconds: float = 1.0) -> None:
    """G.722 as telephone exchanges keep it: no container, 8,000 bytes a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(int(16_000 * seconds)) / 16_000)).astype(np.int16)
    encoder = av.CodecContext.create("g722", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 16_000, "mono", "s16"
    frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
    frame.sample_rate = 16_000
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    path.write_bytes(b"".join(bytes(packet) for packet in packets))


def test_prompts_are_decoded_once_and_signals_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("hello", "digits/1", "beep", "silence/2", "dial-tone", "number-not-answering"):
        _prompt(tmp_path / f"{name}.g722")
    (tmp_path / "empty.g722").write_bytes(b"")
    assert [path.stem for path in find_prompts(tmp_path)] == ["1", "empty", "hello", "number-not-answering"]
    assert decode_prompts(tmp_path) == 3
    assert "empty.g722: not decoded: there is no sound in it" in caplog.text
    samples, rate = sf.read(tmp_path / f"hello.g722{DECODED}")
    assert rate == 16_000
    assert len(samples) == pytest.approx(16_000, abs=320)
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() * rate / len(samples) == pytest.approx(440, abs=2)
    before = (tmp_path / f"hello.g722{DECODED}").stat().st_mtime_ns
    assert decode_prompts(tmp_path) == 3
    assert (tmp_path / f"hello.g722{DECODED}").stat().st_mtime_ns == before
    assert not list(tmp_path.rglob(".*"))


def test_prompts_are_listed_as_speech(tmp_path: Path) -> None:
    _prompt(tmp_path / "un" / PACKAGE / "fr_CA_f_June" / "bonjour.g722")
    assert build_manifest(tmp_path / "un", tmp_path / "manifest.parquet") == 1
    [row] = pd.read_parquet(tmp_path / "manifest.parquet").to_dict("records")
    assert (row["kind"], row["source"]) == ("speech", "prompt")
    assert language_of(row["path"]) == "fr"


@pytest.mark.parametrize(
    ("path", "speaker", "language"),
    [
        ("tuxpaint-stamps-default/usr/share/animals/cat_desc_fr.ogg", "tuxpaint-stamps-default/fr", "fr"),
        ("tuxpaint-stamps-default/usr/share/animals/cat_desc_pt_BR.wav", "tuxpaint-stamps-default/pt_BR", "pt"),
        ("tuxpaint-stamps-default/usr/share/animals/cat_desc.ogg", "tuxpaint-stamps-default/en", "en"),
        ("fillets-ng-data-cs/usr/sound/gods/cs/b2-m-zasah.ogg", "fillets-ng-data-cs/m", "cs"),
        ("fillets-ng-data-nl/usr/sound/gods/nl/b2-v-zasah.ogg", "fillets-ng-data-nl/v", "nl"),
        ("fillets-ng-data-nl/usr/sound/gods/nl/hlas.ogg", "fillets-ng-data-nl/others", "nl"),
        (f"{PACKAGE}/usr/share/asterisk/sounds/fr_CA_f_June/digits/1.g722{DECODED}", PACKAGE, "fr"),
        ("festvox-ru/usr/share/festival/a.wav", "festvox-ru/usr/share/festival", "ru"),
        ("klettres-data/usr/share/klettres/en_GB/alpha/a.ogg", "klettres-data/usr/share/klettres/en_GB/alpha", "en"),
        (
            "ktuberling-data/usr/share/ktuberling/sounds/da/x.ogg",
            "ktuberling-data/usr/share/ktuberling/sounds/da",
            "da",
        ),
        ("qabcs-data/usr/share/qabcs/hello.ogg", "qabcs-data/usr/share/qabcs", ""),
    ],
)
def test_paths_tell_who_speaks_what(path: str, speaker: str, language: str) -> None:
    assert speaker_of(path) == speaker
    assert language_of(path) == language
