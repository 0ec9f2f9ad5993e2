"""Score heads on an embedding."""

from tunelab.heads.mlp import Heads, load_heads, save_heads

__all__ = ["Heads", "load_heads", "save_heads"]
