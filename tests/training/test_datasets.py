"""Loaders against small tables in the exact published formats."""

from pathlib import Path

import pytest

from tunelab.training.datasets import (
    LOADERS,
    DatasetError,
    by_head,
    read_csv,
    read_fma,
    read_gtzan_speech,
    read_jamendo,
    read_spotify,
)
from tunelab.types import HEADS


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


class TestCsv:
    def table(self, folder: Path, text: str) -> Path:
        path = folder / "labels.csv"
        path.write_text(text)
        touch(folder, "a.mp3", "b.mp3")
        return path

    def test_values_of_0_to_100_and_missing_ones(self, tmp_path: Path) -> None:
        table = self.table(tmp_path, "path,energy,valence,artist\na.mp3,80,,X\nb.mp3,1,0.5,X\nmissing.mp3,3,1,Y\n")
        first, second = read_csv(table, tmp_path)
        assert first.labels == {"energy": 0.8}
        assert second.labels == {"energy": 0.01, "happiness": 0.5}
        assert first.group == second.group == "X"
        assert first.split is None
        assert dict(by_head([first, second])) == {"energy": [0, 1], "happiness": [1]}

    def test_splits_are_kept(self, tmp_path: Path) -> None:
        table = self.table(tmp_path, "path,energy,split\na.mp3,0.5,test\nb.mp3,0.5,\n")
        assert [example.split for example in read_csv(table, tmp_path)] == ["test", None]

    @pytest.mark.parametrize(
        ("text", "where"),
        [
            ("file,energy\na.mp3,1\n", "column 'path'"),
            ("path,mood\na.mp3,1\n", "at least one of"),
            ("path,energy\na.mp3,loud\n", "line 2"),
            ("path,energy\na.mp3,1\nb.mp3,-3\n", "line 3"),
            ("path,energy\na.mp3,nan\n", "line 2"),
            ("path,energy,split\na.mp3,1,dev\n", "line 2"),
            ("", "column 'path'"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_line(self, tmp_path: Path, text: str, where: str) -> None:
        with pytest.raises(DatasetError, match=where):
            read_csv(self.table(tmp_path, text), tmp_path)


FMA = """\
,echonest,echonest,echonest,echonest,echonest,echonest,echonest,echonest,echonest
,audio_features,audio_features,audio_features,audio_features,audio_features,audio_features,audio_features,audio_features,metadata
,acousticness,danceability,energy,instrumentalness,liveness,speechiness,tempo,valence,artist_name
track_id,,,,,,,,,
2,0.4166752327,0.6758939853,0.6344762684,0.0106280683,0.1776465712,0.1593100648,165.9220000000,0.5766609880,AWOL
5,0.0435668989,0.7455658702,0.7014699916,0.0006967990,0.3731433124,0.1245953419,,0.6216612236,AWOL
134,0.4522173071,0.5132380502,0.5604099311,0.0194426943,0.0965666940,0.5255193792,114.2900000000,0.8940722715,
"""


def test_fma(tmp_path: Path) -> None:
    table = tmp_path / "echonest.csv"
    table.write_text(FMA)
    touch(tmp_path / "fma_large", "000/000002.mp3", "000/000134.mp3")
    first, second = read_fma(table, tmp_path / "fma_large")
    assert first.path.name == "000002.mp3"
    assert first.labels["happiness"] == pytest.approx(0.576660988)
    assert set(first.labels) == set(HEADS)
    assert (first.group, second.group) == ("AWOL", "134")
    table.write_text("track_id,acousticness\n2,0.4\n")
    with pytest.raises(DatasetError):
        read_fma(table, tmp_path)


SPOTIFY_ROWS = (
    ",track_id,artists,album_name,track_name,popularity,duration_ms,explicit,danceability,energy,key,loudness,mode,"
    "speechiness,acousticness,instrumentalness,liveness,valence,tempo,time_signature,track_genre",
    "0,5SuOikwiRyPMVoIQDJUgSV,Gen Hoshino,Comedy,Comedy,73,230666,False,0.676,0.461,1,-6.746,0,"
    "0.143,0.0322,1.01e-06,0.358,0.715,87.917,4,acoustic",
    '1,4qPNDBW1i3p13qLCt0Ki3A,Ben Woodward;Other,"Ghost, Acoustic",Ghost,55,149610,False,0.42,0.166,1,-17.235,1,'
    "0.0763,0.924,5.56e-06,0.101,0.267,77.489,4,acoustic",
    "2,5SuOikwiRyPMVoIQDJUgSV,Gen Hoshino,Comedy,Comedy,73,230666,False,0.676,0.461,1,-6.746,0,"
    "0.143,0.0322,1.01e-06,0.358,0.715,87.917,4,j-pop",
)


def test_spotify(tmp_path: Path) -> None:
    table = tmp_path / "dataset.csv"
    table.write_text("\n".join(SPOTIFY_ROWS))
    touch(
        tmp_path / "audio", "x/5SuOikwiRyPMVoIQDJUgSV.mp3", "4qPNDBW1i3p13qLCt0Ki3A.ogg", "4qPNDBW1i3p13qLCt0Ki3A.txt"
    )
    examples = {example.group: example for example in read_spotify(table, tmp_path / "audio")}
    assert set(examples) == {"Gen Hoshino", "Ben Woodward"}
    assert examples["Gen Hoshino"].labels == {
        "energy": 0.461,
        "danceability": 0.676,
        "happiness": 0.715,
        "acousticness": 0.0322,
        "instrumentalness": 1.01e-06,
        "speechiness": 0.143,
    }
    table.write_text("track_id,artists\n")
    with pytest.raises(DatasetError, match="valence"):
        read_spotify(table, tmp_path)


def test_jamendo_with_its_official_splits(tmp_path: Path) -> None:
    table = tmp_path / "autotagging_moodtheme-train.tsv"
    table.write_text(
        "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
        "track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t212.7\tmood/theme---background\n"
        "track_0000950\tartist_000087\talbum_000149\t50/950.mp3\t99.1\tmood/theme---happy\tmood/theme---energetic\n"
        "track_0000951\tartist_000088\talbum_000150\t51/951.mp3\t99.1\tmood/theme---sad\tmood/theme---happy\tmood/theme---calm\n"
    )
    touch(tmp_path, "48/948.mp3", "50/950.mp3", "51/951.mp3")
    with pytest.raises(DatasetError, match=r"no autotagging_moodtheme-validation\.tsv"):
        read_jamendo(table, tmp_path)
    header, _, happy, _ = table.read_text().splitlines()
    (tmp_path / "autotagging_moodtheme-validation.tsv").write_text(f"{header}\n{happy}\n")
    (tmp_path / "autotagging_moodtheme-test.tsv").write_text(f"{header}\n")
    # Whichever of the three is named.
    for part in ("train", "validation", "test"):
        first, second, third = read_jamendo(tmp_path / f"autotagging_moodtheme-{part}.tsv", tmp_path)
        assert first.labels == third.labels == {"energy": 1.0, "happiness": 1.0}
        assert second.labels == {"energy": 0.0}
        assert (first.group, first.split, third.split) == ("artist_000087", "train", "validation")
    whole = tmp_path / "autotagging_moodtheme.tsv"
    whole.write_text(table.read_text())
    assert [example.split for example in read_jamendo(whole, tmp_path)] == [None, None]
    table.write_text("a\tb\n")
    with pytest.raises(DatasetError):
        read_jamendo(table, tmp_path)


def test_gtzan_speech(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        read_gtzan_speech(tmp_path)
    touch(tmp_path, "music_wav/bagpipe.wav", "speech_wav/acomic.wav", "speech_wav/notes.txt")
    assert [(example.path.name, example.labels) for example in read_gtzan_speech(tmp_path)] == [
        ("bagpipe.wav", {"speechiness": 0.0}),
        ("acomic.wav", {"speechiness": 1.0}),
    ]


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        ("csv", "path,energy\nmus\xe9e.mp3,0.5\n".encode("latin-1"), "not UTF-8"),
        ("csv", "path,energy\na.mp3,0.5\n".encode("utf-16"), "not UTF-8"),
        ("csv", b"energy,path\n0.5\n", "line 2: no path"),
        ("csv", b"path,energy\n" + b"a" * 200_000 + b",1\n", "field larger"),
        ("spotify", "\n".join(SPOTIFY_ROWS).replace("0.676,0.461", "0.676,loud").encode(), "line 2: 'loud'"),
        ("spotify", "\n".join(SPOTIFY_ROWS).replace("0.676,0.461", "0.676,46.1").encode(), "energy above 1"),
        ("fma", FMA.replace("\n134,", "\n134\n135,").encode(), "fewer columns"),
        ("jamendo", b"TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\n1\t2\n", "line 2: fewer than five columns"),
    ],
)
def test_damaged_tables_are_told(kind: str, content: bytes, reason: str, tmp_path: Path) -> None:
    touch(tmp_path, "5SuOikwiRyPMVoIQDJUgSV.mp3")
    table = tmp_path / "table.txt"
    table.write_bytes(content)
    with pytest.raises(DatasetError, match=reason):
        LOADERS[kind](table, tmp_path)


def test_empty_cells_and_lines_are_no_labels(tmp_path: Path) -> None:
    touch(tmp_path, "5SuOikwiRyPMVoIQDJUgSV.mp3", "50/950.mp3")
    table = tmp_path / "table.txt"
    table.write_text("\n".join(SPOTIFY_ROWS[:2]).replace("0.676,0.461", "0.676,"))
    [example] = read_spotify(table, tmp_path)
    assert "energy" not in example.labels
    assert example.labels["danceability"] == 0.676
    table.write_text(
        "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n\n"
        "track_0000950\tartist_000087\talbum_000149\t50/950.mp3\t99.1\tmood/theme---happy\n\n"
    )
    assert [example.labels for example in read_jamendo(table, tmp_path)] == [{"happiness": 1.0}]
