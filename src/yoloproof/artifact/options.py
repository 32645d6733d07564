"""What an ONNX file may be besides its case, without anything heavy."""

from __future__ import annotations

from dataclasses import dataclass

OPSET = 23  # the first with Attention
TORCH_OPSET = 18  # the lowest that PyTorch writes


@dataclass(frozen=True)
class OnnxOptions:
    """What an ONNX file may be besides its case.

    input_type -- "float32" or "float16" images in 0…1, or "uint8" pixels with 1/255 in the first weights
    dynamic -- any batch and size; opset -- 24 and later spell SiLU as one operator
    """

    input_type: str = "float32"
    dynamic: bool = False
    opset: int = OPSET
