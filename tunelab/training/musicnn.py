"""musicnn (Pons & Serra 2019, arXiv 1909.06654) as a second labelling tool: 100 tags of 3 s. No product dependency.

The two networks (trained on MagnaTagATune and on the Million Song Dataset) are rebuilt here from the weights in the
``musicnn`` wheel, ISC licence, so that labelling needs no TensorFlow.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch.nn import functional

from tunelab.audio.mel import LogMel, MelConfig
from tunelab.training.precision import quick_dtype
from tunelab.training.tensor_bundle import read_checkpoint
from tunelab.types import FloatArray

_MTT = (
    "guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,vocal,synth,female,"
    "indian,opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,woman,male vocal,no vocal,pop,soft,sitar,"
    "solo,man,classic,choir,voice,new age,dance,male voice,female vocal,beats,harp,cello,no voice,weird,country,metal,"
    "female voice,choral"
)
_MSD = (
    "rock,pop,alternative,indie,electronic,female vocalists,dance,00s,alternative rock,jazz,beautiful,metal,chillout,"
    "male vocalists,classic rock,soul,indie rock,Mellow,electronica,80s,folk,90s,chill,instrumental,punk,oldies,blues,"
    "hard rock,ambient,acoustic,experimental,female vocalist,guitar,Hip-Hop,70s,party,country,easy listening,sexy,"
    "catchy,funk,electro,heavy metal,Progressive rock,60s,rnb,indie pop,sad,House,happy"
)
TAGS: tuple[str, ...] = tuple(
    f"{network} {tag}" for network, tags in (("MTT", _MTT), ("MSD", _MSD)) for tag in tags.split(",")
)
"""Names of the 100 outputs; ``MTT`` and ``MSD`` say on which of the two collections the tag was learnt."""
NETWORKS = ("MTT_musicnn", "MSD_musicnn")
PATCH_FRAMES = 187
"""Mel frames that the networks see at once: 3 s."""
PATCHES = 10
"""Patches in a clip of 30 s."""
TAGS_FOLDER = "tags"
_EPSILON = 1e-3


class Network:
    """One of the two networks: log-mel patches -> logits of 50 tags.

    Args:
        weights: the checkpoint's tensors by name, in TensorFlow's axis order.
        dtype: of the convolutions.
    """

    def __init__(self, weights: dict[str, FloatArray], dtype: torch.dtype = torch.float32) -> None:
        self._dtype = dtype
        self._tensors = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
        for number in range(8):
            # See _front; the middle layers (5 to 7) take no maximum.
            sign = self._norm(number + 1)[0].sign() if number < 5 else 1.0
            for part in ("kernel", "bias"):
                name = f"conv2d_{number}/{part}" if number else f"conv2d/{part}"
                self._tensors[name] = (self._tensors[name] * sign).to(dtype)
        self._norms = [self._norm(number) for number in range(11)]

    def _norm(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Batch normalisation in inference as a factor and a shift."""
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        gamma, beta, mean, variance = (
            self._tensors[f"{name}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        factor = gamma * (variance + _EPSILON).rsqrt()
        return factor, beta - mean * factor

    def _convolve(self, inputs: torch.Tensor, number: int) -> torch.Tensor:
        """Convolution of ``(batch, time, frequency)``; the result is ``(batch, time, frequency, filters)``."""
        name = f"conv2d_{number}" if number else "conv2d"
        kernel, bias = self._tensors[f"{name}/kernel"], self._tensors[f"{name}/bias"]
        height, width = kernel.shape[:2]
        if width == 1:
            return functional.conv2d(inputs[:, None], kernel.permute(3, 2, 0, 1), bias).permute(0, 2, 3, 1)
        # With one input channel a matrix product over gathered windows is quicker than a convolution. Frequency-major
        # rows make each window one stretch of memory.
        batch, time, frequency = inputs.shape[0], inputs.shape[1] - height + 1, inputs.shape[2]
        rows = inputs.unfold(1, height, 1).reshape(batch * time, frequency * height)
        size = (batch * time, frequency - width + 1, width * height)
        windows = rows.as_strided(size, (frequency * height, height, 1)).contiguous()
        matrix = kernel[:, :, 0].permute(2, 1, 0).reshape(-1, width * height)
        products: torch.Tensor = functional.linear(windows, matrix, bias)
        return products.reshape(batch, time, *products.shape[1:])

    def _front(self, inputs: torch.Tensor, number: int) -> torch.Tensor:
        """Convolution, ReLU, normalisation and the maximum over frequency, ``(batch, time, filters)``."""
        outputs = self._convolve(inputs, number)
        factor, shift = self._norms[number + 1]
        # All that follows the convolution is monotone, so the maximum comes first; where the factor is negative the
        # kernel's sign was turned, which makes it the minimum.
        return functional.relu(outputs.amax(2).float() * factor.sign()) * factor + shift

    def _middle(self, features: torch.Tensor, number: int) -> torch.Tensor:
        """Convolution over all features, ReLU and normalisation, ``(batch, time, 64)``."""
        factor, shift = self._norms[number + 1]
        padded = functional.pad(features, (0, 0, 3, 3)).to(self._dtype)
        return functional.relu(self._convolve(padded, number)[:, :, 0].float()) * factor + shift

    @torch.inference_mode()
    def __call__(self, mels: torch.Tensor) -> torch.Tensor:
        """Patches ``(n, 187, 96)`` of ``log10(1 + 10000 power)`` -> logits ``(n, 50)``."""
        factor, shift = self._norms[0]
        inputs = (mels * factor + shift).to(self._dtype)
        wide = functional.pad(inputs, (0, 0, 3, 3))
        parts = [self._front(wide, 0), self._front(wide, 1)]
        for number, length in ((2, 128), (3, 64), (4, 32)):
            before = (length - 1) // 2
            parts.append(self._front(functional.pad(inputs, (0, 0, before, length - 1 - before)), number))
        parts.append(self._middle(torch.cat(parts, 2), 5))
        first = parts[-1]
        parts.append(self._middle(first, 6) + first)
        parts.append(self._middle(parts[-1], 7) + parts[-1])
        features = torch.cat(parts, 2)
        # The networks interleave maximum and mean of each feature.
        pooled = torch.stack([features.amax(1), features.mean(1)], 2).flatten(1)
        factor, shift = self._norms[9]
        hidden = functional.relu(
            functional.linear(pooled * factor + shift, self._tensors["dense/kernel"].T, self._tensors["dense/bias"])
        )
        factor, shift = self._norms[10]
        logits: torch.Tensor = functional.linear(
            hidden * factor + shift, self._tensors["dense_1/kernel"].T, self._tensors["dense_1/bias"]
        )
        return logits


class Musicnn:
    """Both networks of the ``musicnn`` 0.1.0 wheel, on patches of 30-s clips.

    Args:
        patches: which of a clip's ten patches are looked at; the others repeat the nearest of them.
        dtype: of the convolutions, by default the quicker one; bfloat16 changes the logits by about 0.1 (their spread
            is about 3).
    """

    def __init__(self, patches: tuple[int, ...] = (1, 5, 8), dtype: torch.dtype | None = None) -> None:
        dtype = dtype or quick_dtype()
        package: Any = resources.files("musicnn")
        self._networks = [Network(read_checkpoint(package.joinpath(name), ""), dtype) for name in NETWORKS]
        self._patches = list(patches)
        self._nearest = np.abs(np.arange(PATCHES)[:, None] - np.array(patches)).argmin(1)
        config = MelConfig(
            sampling_rate=16_000,
            n_fft=512,
            hop_length=256,
            win_length=512,
            num_mel_bins=96,
            fmax=8000,
            log="log10_1p",
            mean=0.0,
            std=1.0,
            max_length=PATCHES * PATCH_FRAMES,
        )
        self._mel = LogMel(config)

    def __call__(self, samples: FloatArray) -> FloatArray:
        """Tag logits of one clip of 30 s at 16 kHz, float32, shape ``(10, 100)``, in the order of :data:`TAGS`."""
        mel = torch.from_numpy(self._mel(samples)[: PATCHES * PATCH_FRAMES])
        patches = mel.reshape(PATCHES, PATCH_FRAMES, -1)[self._patches]
        logits = torch.cat([network(patches) for network in self._networks], 1)
        result: FloatArray = logits.float().numpy()[self._nearest]
        return result


def tag_shard(path: Path) -> None:
    """Label one shard of rendered audio; the logits, float16 ``(n, 10, 100)``, go to ``tags`` beside the shards."""
    torch.set_num_threads(1)
    out = path.parent.parent / TAGS_FOLDER / path.name
    if out.exists():
        return
    out.parent.mkdir(exist_ok=True)
    teacher = _teacher()
    audio = load_file(path)["audio"]
    tags = np.stack([teacher(clip.astype(np.float32) / 32767) for clip in audio]).astype(np.float16)
    save_file({"tags": tags}, out.with_suffix(".new"))
    out.with_suffix(".new").replace(out)


@cache
def _teacher() -> Musicnn:
    return Musicnn()
