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


def ast_config(layers: int) -> ASTConfig:
    """The shape of tunelab-v1 with ``layers`` blocks."""
    config = ASTConfig(
        hidden_size=768,
        num_hidden_layers=layers,
        num_attention_heads=12,
        intermediate_size=3072,
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
    """

    def __init__(self, layers: int, dense: int, trunk: int, scores: int) -> None:
        super().__init__()
        self.ast = ASTModel(ast_config(layers))
        self.ast.layernorm = nn.Identity()
        self.ast.embeddings.position_embeddings.requires_grad_(False)
        width = 768
        # Sum of a time and a frequency table: 125 rows are learnt quicker than 936.
        self.time = nn.Parameter(torch.randn(TIME_PATCHES, width) * 0.02)
        self.frequency = nn.Parameter(torch.randn(FREQUENCY_PATCHES, width) * 0.02)
        self.to_dense = nn.Linear(width, dense)
        self.to_trunk = nn.Linear(width, trunk)
        self.to_scores = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, scores))

    def positions(self) -> torch.Tensor:
        """Position table of all patches, frequency-major, shape ``(936, 768)``."""
        return (self.frequency[:, None] + self.time[None]).reshape(PATCHES, -1)

    def tokens(self, mels: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Run the blocks on chosen patches.

        Args:
            mels: standardised, shape ``(batch, 1876, 128)``.
            kept: patch numbers (``f * 117 + t``), shape ``(batch, k)``.

        Returns:
            Patch tokens after the last block, shape ``(batch, k, 768)``.
        """
        batch = mels.shape[0]
        patches = mels[:, : TIME_PATCHES * PATCH].reshape(batch, TIME_PATCHES, PATCH, FREQUENCY_PATCHES, PATCH)
        patches = patches.permute(0, 3, 1, 4, 2).reshape(batch, PATCHES, PATCH * PATCH)
        patches = patches.gather(1, kept[:, :, None].expand(-1, -1, PATCH * PATCH))
        embeddings = self.ast.embeddings
        projection = embeddings.patch_embeddings.projection
        hidden = nn.functional.linear(patches, projection.weight.flatten(1), projection.bias)
        hidden = hidden + self.positions()[kept]
        special = torch.cat([embeddings.cls_token, embeddings.distillation_token], 1).expand(batch, -1, -1)
        hidden = torch.cat([special, hidden], 1)
        for layer in self.ast.layers:
            hidden = layer(hidden)
        return hidden[:, 2:]

    def forward(self, mels: torch.Tensor, kept: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Token targets ``(batch, k, dense)``, their pooled form, trunk, and scores from the mean token."""
        tokens = self.tokens(mels, kept)
        pooled = tokens.mean(1)
        return self.to_dense(tokens), self.to_dense(pooled), self.to_trunk(pooled), self.to_scores(pooled)

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
        fresh = ASTModel(ast_config(layers)).layers
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
