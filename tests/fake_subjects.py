"""A network that worker processes import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


class Tiny(torch.nn.Module):
    """[B, 3, H, W] → [B, 84, 4]; makes the file `mark` in its 50th run."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark, self.runs = mark, 0

    def forward(self, images: Any) -> Any:
        self.runs += 1
        if self.runs == 50:
            Path(self.mark).touch()
        return images.mean((1, 2, 3)).reshape(-1, 1, 1).expand(-1, 84, 4) + 0.0
