"""MAEST as a PyTorch module: ``transformers``' Audio Spectrogram Transformer, cut and pooled.

Reference: Alonso-Jimenez, Serra, Bogdanov, "Efficient Supervised Training of Audio Transformers for Music
Representation Learning", ISMIR 2023. It found the embedding of a middle block better for downstream tasks than the
last one, so the blocks after it are never run, nor kept in the weights.
"""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import ASTConfig, ASTModel

from tunelab.encoder.bundle import WEIGHTS, Bundle
from tunelab.errors import BundleInvalid


class MaestEncoder(nn.Module):
    """Log-mel window -> embedding.

    Tokens are the class token, the distillation token and then the patches, frequency-major (patch ``f, t`` is
    number ``f * time_patches + t``).
    """

    def __init__(self, bundle: Bundle, *, attention: str = "sdpa") -> None:
        super().__init__()
        config = ASTConfig(**{key: value for key, value in bundle.ast.items() if key != "tunelab"})
        config._attn_implementation = attention
        self.ast = ASTModel(config)
        # The final norm belongs to the end of the full network; the embedding is read before it.
        self.ast.layernorm = nn.Identity()
        self.pooling = bundle.pooling.pooling
        stride = bundle.pooling.time_patch_stride
        self.rows, columns = self.ast.embeddings.get_shape(config)
        kept = [2 + row * columns + column for row in range(self.rows) for column in range(0, columns, stride)]
        self.register_buffer("kept_tokens", torch.tensor([0, 1, *kept]), persistent=False)
        self.keeps_all = stride == 1

    def tokens(self, mels: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel windows -> tokens of the last block.

        Args:
            mels: shape ``(batch, frames, mel_bins)``.
            bias: is added to every attention's scores, shape ``(1, 1, 2 + patches, 2 + patches)``.

        Returns:
            shape ``(batch, 2 + patches, width)``.
        """
        hidden: torch.Tensor = self.ast.embeddings(mels)
        if not self.keeps_all:
            hidden = hidden.index_select(1, self.kept_tokens)  # type: ignore[arg-type]
        for layer in self.ast.layers:
            hidden = layer(hidden, attention_mask=bias)
        return hidden

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        """Log-mel windows ``(batch, frames, mel_bins)`` -> embeddings ``(batch, width)``."""
        tokens = self.tokens(mels)
        if self.pooling == "mean":
            return tokens[:, 2:].mean(dim=1)
        return tokens[:, 0] if self.pooling == "cls" else tokens[:, 1]

    def with_columns(self, mels: torch.Tensor, bias: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings by mean, and the means of each time column of patches, of which they are the mean.

        Args:
            mels: shape ``(batch, frames, mel_bins)``.
            bias: see :meth:`tokens`.

        Returns:
            shapes ``(batch, width)`` and ``(batch, columns, width)``.
        """
        patches = self.tokens(mels, bias)[:, 2:]
        columns = patches.reshape(len(patches), self.rows, -1, patches.shape[2])
        return patches.mean(dim=1), columns.mean(dim=1)


def load_maest(bundle: Bundle, *, attention: str = "sdpa") -> MaestEncoder:
    """Build the encoder with the bundle's weights, float32, in evaluation mode.

    Raises:
        BundleInvalid: the weights do not fit the configuration, or are not finite.
    """
    try:
        encoder = MaestEncoder(bundle, attention=attention)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise BundleInvalid(f"no encoder can be built as {bundle.name}'s config.json describes it") from error
    try:
        weights = load_file(bundle.path / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise BundleInvalid(f"{WEIGHTS} cannot be read as safetensors") from error
    weights = {name: value.float() for name, value in weights.items() if not name.startswith("layernorm.")}
    try:
        encoder.ast.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise BundleInvalid(f"{WEIGHTS} does not fit {bundle.name}'s config.json") from error
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise BundleInvalid(f"{WEIGHTS} has weights that are not finite")
    return encoder.eval().requires_grad_(False)
