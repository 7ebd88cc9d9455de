"""The custom operators of domain ``sparse_detr``: PyTorch twins, which define what every other form must give."""

from sparse_detr_deploy.modeling.ops.ms_deform_attn import ms_deform_attn
from sparse_detr_deploy.modeling.ops.select_tokens import select_tokens

__all__ = ["ms_deform_attn", "select_tokens"]
