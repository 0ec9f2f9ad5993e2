import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tunelab.training import musicnn
from tunelab.training.musicnn import PATCHES, TAGS, Musicnn, Network, tag_shard
from tunelab.training.tensor_bundle import read_checkpoint
from tunelab.types import FloatArray


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A LevelDB block whose keys share what they can with the one before, with its trailer: no compression, no CRC."""
    out, last = b"", b""
    for key, value in entries:
        shared = next((n for n, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), min(len(key), len(last)))
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        last = key
    return out + struct.pack("<II", 0, 1) + bytes(5)


def _checkpoint(folder: Path, tensors: dict[str, FloatArray]) -> None:
    data, entries = b"", [(b"", b"\x08\x01")]
    for name, tensor in sorted(tensors.items()):
        sizes = b"".join(b"\x12" + _varint(len(size) + 1) + b"\x08" + size for size in map(_varint, tensor.shape))
        entry = b"\x08\x01\x12" + _varint(len(sizes)) + sizes + b"\x20" + _varint(len(data))
        entries.append((name.encode(), entry + b"\x28" + _varint(tensor.nbytes) + b"\x35" + bytes(4)))
        data += tensor.astype("<f4").tobytes()
    block = _block(entries)
    index = _block([(b"zzz", _varint(0) + _varint(len(block) - 5))])
    handles = _varint(0) * 2 + _varint(len(block)) + _varint(len(index) - 5)
    (folder / "m.index").write_bytes(block + index + handles.ljust(40, b"\0") + bytes(8))
    (folder / "m.data-00000-of-00001").write_bytes(data)


def test_checkpoint_is_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {"conv2d/kernel": rng.normal(size=(7, 38, 1, 3)), "conv2d/bias": rng.normal(size=3)}
    tensors = {name: value.astype(np.float32) for name, value in tensors.items()}
    _checkpoint(tmp_path, tensors)
    read = read_checkpoint(tmp_path, "m")
    assert set(read) == set(tensors)
    assert all(np.array_equal(read[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("harm", ["index", "data"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, harm: str) -> None:
    _checkpoint(tmp_path, {"dense/bias": np.ones(200, np.float32)})
    path = tmp_path / {"index": "m.index", "data": "m.data-00000-of-00001"}[harm]
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(ValueError, match=r"cut off|does not fit|compressed"):
        read_checkpoint(tmp_path, "m")


def _weights(rng: np.random.Generator) -> dict[str, FloatArray]:
    shapes: dict[str, tuple[int, ...]] = {"dense/kernel": (1506, 200), "dense/bias": (200,)}
    shapes |= {"dense_1/kernel": (200, 50), "dense_1/bias": (50,)}
    kernels = [(7, 38, 1, 204), (7, 67, 1, 204), (128, 1, 1, 51), (64, 1, 1, 51), (32, 1, 1, 51)]
    kernels += [(7, 561, 1, 64), (7, 64, 1, 64), (7, 64, 1, 64)]
    for number, shape in enumerate(kernels):
        name = f"conv2d_{number}" if number else "conv2d"
        shapes |= {f"{name}/kernel": shape, f"{name}/bias": shape[-1:]}
    weights = {name: rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])) for name, shape in shapes.items()}
    for number, size in enumerate([1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200]):
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        for part in ("gamma", "beta", "moving_mean"):
            weights[f"{name}/{part}"] = rng.normal(size=size)
        weights[f"{name}/moving_variance"] = rng.uniform(0.5, 2, size)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def test_the_quick_front_end_equals_plain_convolution() -> None:
    # Some factors of the normalisation are negative here: there the maximum comes from the smallest activation.
    weights = _weights(np.random.default_rng(1))
    network, mels = Network(weights), torch.rand(2, 50, 96)
    kernel = torch.from_numpy(weights["conv2d/kernel"]).permute(3, 2, 0, 1)
    plain = torch.nn.functional.conv2d(mels[:, None], kernel, torch.from_numpy(weights["conv2d/bias"])).relu()
    factor, shift = network._norms[1]
    wanted = (plain * factor[:, None, None] + shift[:, None, None]).amax(3).mT
    assert (factor < 0).any()
    torch.testing.assert_close(network._front(mels, 0), wanted, atol=1e-4, rtol=1e-4)


def test_tags_equal_the_published_networks() -> None:
    pytest.importorskip("musicnn", reason="the musicnn wheel holds the weights")
    mels = torch.from_numpy((3 * np.random.default_rng(0).random((1, 187, 96))).astype(np.float32))
    teacher = Musicnn(dtype=torch.float32)
    logits = torch.cat([network(mels) for network in teacher._networks], 1)[0]
    # What TensorFlow 2.21 computes from the published graphs.
    wanted = [-8.4845, -6.7738, -5.3928, -7.0783, -2.6302, -5.9705, -5.6165, -9.4345]
    np.testing.assert_allclose(logits[[0, 7, 20, 49, 50, 73, 83, 99]], wanted, atol=1e-3)


def test_a_shard_is_tagged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Teacher:
        calls = 0

        def __call__(self, samples: FloatArray) -> FloatArray:
            self.calls += 1
            assert abs(float(samples[0])) <= 1
            return np.full((PATCHES, len(TAGS)), samples[0], np.float32)

    teacher = Teacher()
    monkeypatch.setattr(musicnn, "_teacher", lambda: teacher)
    (tmp_path / "audio").mkdir()
    path = tmp_path / "audio" / "train-0001-0000.safetensors"
    save_file({"audio": np.array([[32767, 0], [0, 1]], np.int16)}, path)
    tag_shard(path)
    tag_shard(path)
    tags = load_file(tmp_path / "tags" / path.name)["tags"]
    assert tags.shape == (2, PATCHES, len(TAGS))
    assert tags[0, 0, 0] == 1.0
    assert teacher.calls == 2
