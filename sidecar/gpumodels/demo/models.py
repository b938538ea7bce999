"""Example models, shaped like the ones that people run: modules and parameters only, without any computation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


class WanLayerNorm(nn.LayerNorm):
    """A norm without weights, as Wan's blocks have them."""

    def __init__(self, width: int) -> None:
        super().__init__(width, elementwise_affine=False)


class WanSelfAttention(nn.Module):
    """Query, key, value and output, with normed queries and keys."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.o = nn.Linear(width, width)
        self.norm_q = nn.RMSNorm(width) if hasattr(nn, "RMSNorm") else nn.LayerNorm(width)
        self.norm_k = nn.RMSNorm(width) if hasattr(nn, "RMSNorm") else nn.LayerNorm(width)


class WanAttentionBlock(nn.Module):
    """Self-attention, cross-attention to the text, feed-forward."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm1 = WanLayerNorm(width)
        self.self_attn = WanSelfAttention(width)
        self.norm3 = nn.LayerNorm(width)
        self.cross_attn = WanSelfAttention(width)
        self.norm2 = WanLayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, width))
        self.modulation = nn.Parameter(torch.empty(1, 6, width))


class Head(nn.Module):
    """The last layer, which turns tokens back into latents."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = WanLayerNorm(width)
        self.head = nn.Linear(width, 64)
        self.modulation = nn.Parameter(torch.empty(1, 2, width))


@dataclass(frozen=True, slots=True)
class WanSize:
    """How large a Wan-like transformer is; the real 14B is `WanSize(5120, 13824, 40, 4096)`."""

    width: int
    inner: int
    blocks: int
    text_width: int


SMALL: WanSize = WanSize(384, 1728, 30, 256)
FULL: WanSize = WanSize(5120, 13824, 40, 4096)


class WanModel(nn.Module):
    """The diffusion transformer: 22 modules a block."""

    def __init__(self, size: WanSize) -> None:
        super().__init__()
        width = size.width
        self.patch_embedding = nn.Conv3d(16, width, (1, 2, 2), (1, 2, 2))
        self.text_embedding = nn.Sequential(nn.Linear(size.text_width, width), nn.GELU(), nn.Linear(width, width))
        self.time_embedding = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(width, width * 6))
        self.blocks = nn.ModuleList(WanAttentionBlock(width, size.inner) for _ in range(size.blocks))
        self.head = Head(width)


class VaceModule(nn.Module):
    """VACE's control blocks beside a Wan transformer, here as trained on depth maps."""

    def __init__(self, size: WanSize, blocks: int) -> None:
        super().__init__()
        self.vace_patch_embedding = nn.Conv3d(96, size.width, (1, 2, 2), (1, 2, 2))
        self.vace_blocks = nn.ModuleList(WanAttentionBlock(size.width, size.inner) for _ in range(blocks))


class ResidualBlock(nn.Module):
    """Two causal convolutions of a video VAE, each with its norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)


class AutoencoderKLWan(nn.Module):
    """The VAE for videos: an encoder and a decoder of residual blocks."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv3d(3, channels, 3), *(ResidualBlock(channels) for _ in range(depth)))
        self.quant_conv = nn.Conv3d(channels, 32, 1)
        self.post_quant_conv = nn.Conv3d(16, channels, 1)
        self.decoder = nn.Sequential(*(ResidualBlock(channels) for _ in range(depth)), nn.Conv3d(channels, 3, 3))
        self.register_buffer("latents_mean", torch.empty(16))
        self.register_buffer("latents_std", torch.empty(16))


class T5Block(nn.Module):
    """One layer of the text encoder."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        self.o = nn.Linear(width, width, bias=False)
        self.wi_0 = nn.Linear(width, inner, bias=False)
        self.wi_1 = nn.Linear(width, inner, bias=False)
        self.wo = nn.Linear(inner, width, bias=False)
        self.layer_norm = nn.LayerNorm(width)


class UMT5EncoderModel(nn.Module):
    """The text encoder, whose embedding is tied into the encoder as in T5."""

    def __init__(self, vocabulary: int, width: int, inner: int, layers: int) -> None:
        super().__init__()
        self.shared = nn.Embedding(vocabulary, width)
        self.encoder = nn.ModuleDict(
            {"embed_tokens": self.shared, "block": nn.ModuleList(T5Block(width, inner) for _ in range(layers))}
        )


class LoRAModule(nn.Module):
    """One pair of low-rank matrices, named as kohya's networks name them."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.lora_down = nn.Linear(width, rank, bias=False)
        self.lora_up = nn.Linear(rank, width, bias=False)
        self.register_buffer("alpha", torch.empty(()))


class LoRANetwork(nn.Module):
    """A LoRA of a Wan transformer's self-attention."""

    def __init__(self, size: WanSize, rank: int) -> None:
        super().__init__()
        for block in range(size.blocks):
            for layer in ("q", "k", "v", "o"):
                self.add_module(f"lora_unet_blocks_{block}_self_attn_{layer}", LoRAModule(size.width, rank))
