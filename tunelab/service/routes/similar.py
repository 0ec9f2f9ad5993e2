"""Similar tracks in the account's own catalogue."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/v1", tags=["similar"])
