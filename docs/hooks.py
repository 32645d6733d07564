"""What mkdocs.yml cannot say: pages that are not written yet are left out of the navigation, not an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Drop navigation entries without a file."""
    config.nav = _existing(config.nav, Path(config.docs_dir))
    return config


def _existing(entries: list[Any], folder: Path) -> list[Any]:
    kept: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            sections = {title: _existing(pages, folder) for title, pages in entry.items()}
            kept += [{title: pages} for title, pages in sections.items() if pages]
        elif (folder / entry).is_file():
            kept.append(entry)
    return kept
