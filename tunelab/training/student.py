"""The encoder in training: ``transformers``' ASTModel on some of its tokens, with projectors to the targets."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import ASTConfig, ASTModel

FREQUENCY_PATCHES, TIME_PATCHES, PATCH = 8, 117, 16
PATCHES = FREQUENCY_PATCHES * TIME_PATCHES
CROP_PATCHES = 17
"""Time patches of a contiguous crop: 4.35 s."""
WIDTH = 768
POOLINGS = ("mean", "cls", "both")
"""Mean of the patch tokens, the first special token, or the mean of these two. Bundles are pooled by the mean."""
AUXILIARY = ("to_patches.", "to_view.")
"""Parts that only further objectives need; they are not kept with a run."""


def ast_config(layers: int, width: int = WIDTH) -> ASTConfig:
    """The shape of tunelab-v1 with ``layers`` blocks, or a narrower one; heads are 64 wide."""
    config = ASTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        num_mel_bins=128,
        max_length=1876,
        patch_size=PATCH,
        frequency_stride=PATCH,
        time_stride=PATCH,
    )
    # At the few tokens of a training step explicit softmax attention is quicker on a CPU than the fused one.
    config._attn_implementation = "eager"
    return config


class Student(nn.Module):
    """Some of a window's tokens -> hidden tokens, an embedding and the teacher's targets.

    Args:
        layers: blocks.
        dense: width of the dense target per token.
        trunk: width of the teacher's trunk.
        scores: number of clip-level scores.
        width: of tokens and embedding.
        pooling: one of :data:`POOLINGS`.
    """

    def __init__(
        self, layers: int, dense: int, trunk: int, scores: int, *, width: int = WIDTH, pooling: str = "mean"
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is one of {', '.join(POOLINGS)}")
        self.pooling = pooling
        self.ast = ASTModel(ast_config(layers, width))
        self.ast.layernorm = nn.Identity()
        self.ast.embeddings.position_embeddings.requires_grad_(False)
        # Sum of a time and a frequency table: 125 rows are learnt quicker than 936.
        self.time = nn.Parameter(torch.randn(TIME_PATCHES, width) * 0.02)
        self.frequency = nn.Parameter(torch.randn(FREQUENCY_PATCHES, width) * 0.02)
        self.to_dense = nn.Linear(width, dense)
        self.to_trunk = nn.Linear(width, trunk)
        self.to_scores = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, scores))
        self.to_patches = nn.Sequential(nn.Linear(width, 512), nn.GELU(), nn.Linear(512, PATCH * PATCH))
        self.to_view = nn.Linear(width, 128)

    def positions(self) -> torch.Tensor:
        """Position table of all patches, frequency-major, shape ``(936, 768)``."""
        return (self.frequency[:, None] + self.time[None]).reshape(PATCHES, -1)

    def patches(self, mels: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Chosen patches of spectrograms, shape ``(batch, k, 256)``; the arguments are those of :meth:`tokens`."""
        batch = mels.shape[0]
        patches = mels[:, : TIME_PATCHES * PATCH].reshape(batch, TIME_PATCHES, PATCH, FREQUENCY_PATCHES, PATCH)
        patches = patches.permute(0, 3, 1, 4, 2).reshape(batch, PATCHES, PATCH * PATCH)
        return patches.gather(1, kept[:, :, None].expand(-1, -1, PATCH * PATCH))

    def hidden(self, patches: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Run the blocks on patches: both special tokens and the patches' own, shape ``(batch, 2 + k, width)``."""
        embeddings = self.ast.embeddings
        projection = embeddings.patch_embeddings.projection
        hidden = nn.functional.linear(patches, projection.weight.flatten(1), projection.bias)
        hidden = hidden + self.positions()[kept]
        special = torch.cat([embeddings.cls_token, embeddings.distillation_token], 1).expand(len(patches), -1, -1)
        hidden = torch.cat([special, hidden], 1)
        for layer in self.ast.layers:
            hidden = layer(hidden)
        return hidden

    def tokens(self, mels: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Patch tokens after the last block.

        Args:
            mels: standardised, shape ``(batch, 1876, 128)``.
            kept: patch numbers (``f * 117 + t``), shape ``(batch, k)``.

        Returns:
            Shape ``(batch, k, width)``.
        """
        return self.hidden(self.patches(mels, kept), kept)[:, 2:]

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Embeddings ``(batch, width)`` of what :meth:`hidden` returns."""
        if self.pooling == "cls":
            return hidden[:, 0]
        mean = hidden[:, 2:].mean(1)
        return mean if self.pooling == "mean" else (mean + hidden[:, 0]) / 2

    def embed(self, mels: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Embeddings ``(batch, width)``; the arguments are those of :meth:`tokens`."""
        return self.pool(self.hidden(self.patches(mels, kept), kept))

    def forward(self, mels: torch.Tensor, kept: torch.Tensor, views: int = 1) -> tuple[torch.Tensor, ...]:
        """Token targets ``(batch, k, dense)``, their pooled form, trunk, scores, and the embedding of each view.

        Args:
            mels: as in :meth:`tokens`.
            kept: as there; with several views, ``k / views`` patches for each of them, one after the other.
            views: parts that are encoded apart; clip-level targets are told from the mean of their embeddings, whose
                shape is ``(batch, views, width)``.
        """
        batch, count = kept.shape
        apart = kept.reshape(batch * views, count // views)
        hidden = self.hidden(self.patches(mels, kept).reshape(*apart.shape, PATCH * PATCH), apart)
        seen = self.pool(hidden).reshape(batch, views, -1)
        tokens = hidden[:, 2:].reshape(batch, count, -1)
        pooled = seen.mean(1)
        return self.to_dense(tokens), self.to_dense(pooled), self.to_trunk(pooled), self.to_scores(pooled), seen

    @torch.no_grad()
    def start_from(self, bundle: Path) -> None:
        """Take over the encoder of a bundle of the same shape; the projectors stay as they are.

        Raises:
            RuntimeError: the shapes differ.
        """
        weights = load_file(bundle / "model.safetensors")
        layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
        self.grow(layers)
        norm = {"layernorm.weight", "layernorm.bias"}
        self.ast.load_state_dict({name: value.float() for name, value in weights.items() if name not in norm})
        # The table of all patches is a sum of one for time and one for frequency: their means give both back.
        table = self.ast.embeddings.position_embeddings[0, 2:].reshape(FREQUENCY_PATCHES, TIME_PATCHES, -1)
        self.time.copy_(table.mean(0))
        self.frequency.copy_(table.mean(1) - table.mean((0, 1)))
        self.ast.embeddings.position_embeddings.zero_()

    def grow(self, layers: int) -> None:
        """Append blocks whose output matrices are zero, up to ``layers``: the function stays exactly the same."""
        fresh = ASTModel(ast_config(layers, self.ast.config.hidden_size)).layers
        for layer in fresh[len(self.ast.layers) :]:
            for output in (layer.attention.o_proj, layer.mlp.fc2):
                nn.init.zeros_(output.weight)
                nn.init.zeros_(output.bias)
            self.ast.layers.append(layer)
        self.ast.config.num_hidden_layers = layers


def choose_patches(batch: int, crop: bool, generator: torch.Generator) -> torch.Tensor:
    """Patch numbers ``(batch, 136)``: a contiguous crop of time for each clip, or patches drawn at random."""
    count = FREQUENCY_PATCHES * CROP_PATCHES
    if not crop:
        return torch.rand(batch, PATCHES, generator=generator).topk(count, dim=1).indices
    start = torch.randint(0, TIME_PATCHES - CROP_PATCHES + 1, (batch, 1, 1), generator=generator)
    times = start + torch.arange(CROP_PATCHES)[None, None]
    rows = torch.arange(FREQUENCY_PATCHES)[None, :, None] * TIME_PATCHES
    return (rows + times).reshape(batch, count)


def two_views(batch: int, generator: torch.Generator) -> torch.Tensor:
    """Patch numbers ``(batch, 136)``: half of them drawn from the first half of the time, half from the second."""
    count, half = FREQUENCY_PATCHES * CROP_PATCHES // 2, TIME_PATCHES // 2
    rows = torch.arange(FREQUENCY_PATCHES)[:, None] * TIME_PATCHES
    views = []
    for start in (0, TIME_PATCHES - half):
        numbers = (rows + torch.arange(start, start + half)[None]).reshape(-1)
        draws = torch.rand(batch, len(numbers), generator=generator).topk(count, dim=1).indices
        views.append(numbers[draws])
    return torch.cat(views, 1)
