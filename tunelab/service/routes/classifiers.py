"""Customers' own classifiers on stored embeddings."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/v1", tags=["classifiers"])
