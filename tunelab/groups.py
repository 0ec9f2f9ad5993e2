"""What belongs together stays together: groups that share a recording are one."""

from __future__ import annotations

from collections.abc import Sequence


def joined(groups: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Groups for a split in which equal recordings, too, lie on one side.

    Args:
        groups: of each track: an artist, an album, or the track itself.
        ids: of each track's content.

    Returns:
        For each track the name of a group; groups that have an id in common got the same one.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for group, content in zip(groups, ids, strict=True):
        parent[root(group)] = root(first.setdefault(content, group))
    return [root(group) for group in groups]
