"""Reading the Accept header."""

from __future__ import annotations


def prefers(accept: str | None, media_type: str, *, over: str) -> bool:
    """Whether ``accept`` asks for ``media_type`` more than for ``over``, which is sent if it does not care."""
    return _quality(accept, media_type) > _quality(accept, over)


def _quality(accept: str | None, media_type: str) -> float:
    """Quality from 0 to 1 by the most specific matching range (RFC 9110, 12.5.1)."""
    found: dict[str, float] = {}
    for item in (accept or "*/*").lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        found[name] = quality
    for pattern in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if pattern in found:
            return found[pattern]
    return 0.0
