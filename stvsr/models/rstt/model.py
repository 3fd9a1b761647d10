"""RSTT: real-time spatial temporal transformer for space-time super-resolution (2203.14186)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.core.clip import output_length, window_starts
from stvsr.models.base import StvsrModel
from stvsr.models.bicubic_linear import upscale_bicubic_linear
from stvsr.models.layers.frames import as_clip, as_images, interleave
from stvsr.models.layers.parts import by_bands, by_parts
from stvsr.models.layers.pcd import LRELU_SLOPE, conv3x3, zero_conv3x3
from stvsr.models.layers.swin import DROP_PATH
from stvsr.models.layers.upsampling import DoubleSize, keep_scale, make_pictures
from stvsr.models.rstt.blocks import DecoderBlock
from stvsr.models.rstt.config import STAGES, RsttConfig
from stvsr.models.rstt.stage import FRAMES, QUERIES, DecoderStage, EncoderStage

SMALLEST = 2 ** (STAGES - 1)
"""Maps are padded with zeros to multiples of it, the smallest stage's scale."""

FIRST_SLOPE = 0.01
"""Slope of the LeakyReLU behind the first convolution; those behind the others have `lrelu`'s."""


class Rstt(StvsrModel):
    """Encode the frames, ask the encoder's maps for all frames in time, enlarge (figure 2).

    It takes 4 frames. A longer clip is cut into windows of 4 that share a frame, as the published
    evaluation does; of a shorter one the last frame is repeated.
    """

    def __init__(self, config: RsttConfig) -> None:
        super().__init__()
        channels, count = config.channels, STAGES * config.blocks
        self.global_skip = config.global_skip
        heads = [config.heads * 2**i for i in range(STAGES)]
        rates = [DROP_PATH * i / (count - 1) for i in range(count)]
        self.conv_first = conv3x3(3, channels)
        self.encoder = nn.ModuleList(
            EncoderStage(channels, heads[i], rates[i * config.blocks : (i + 1) * config.blocks])
            for i in range(STAGES)
        )
        self.downsample = nn.ModuleList(nn.Conv2d(channels, channels, 4, 2, 1) for _ in heads)
        rates, heads = rates[::-1], heads[::-1]
        self.decoder = nn.ModuleList(
            DecoderStage(channels, heads[i], rates[i * config.blocks : (i + 1) * config.blocks])
            for i in range(STAGES)
        )
        self.upsample = nn.ModuleList(
            nn.ConvTranspose2d(channels, channels, 2, 2) for _ in range(STAGES - 1)
        )
        self.upsample1 = DoubleSize(channels)
        self.upsample2 = DoubleSize(channels, config.hr_channels)
        self.conv_hr = conv3x3(config.hr_channels, config.hr_channels)
        self.conv_last = (zero_conv3x3 if config.global_skip else conv3x3)(config.hr_channels, 3)
        self.downsample[-1].requires_grad_(False)  # published, and used by nothing
        self.apply(_initialise)
        if config.global_skip:
            self._keep_scale()

    def _keep_scale(self) -> None:
        """Start all but the last convolution so that details reach it, which starts at zero.

        The decoder's maps come from 1/8 of the size: what is finer is in the dictionary alone, so
        each query first looks at its own pixel there.
        """
        keep_scale(self.conv_first, FIRST_SLOPE)
        keep_scale(self.downsample)
        keep_scale(self.upsample)
        for layer in (self.upsample1, self.upsample2, self.conv_hr):
            keep_scale(layer, LRELU_SLOPE)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if isinstance(module, DecoderBlock):
                module.attn2.look_at_own_pixel()

    def super_resolve(self, lr_clip: Tensor) -> Tensor:
        """(B, N, 3, H, W) -> (B, 2N-1, 3, 4H, 4W), in windows of 4 frames."""
        B, N, _, H, W = lr_clip.shape
        missing = max(0, FRAMES - N)
        frames = torch.cat([lr_clip, lr_clip[:, -1:].expand(-1, missing, -1, -1, -1)], dim=1)
        starts = window_starts(N + missing, FRAMES, FRAMES - 1, align_last=True)
        windows = torch.stack([frames[:, start : start + FRAMES] for start in starts], dim=1)
        windows = windows.flatten(0, 1)
        pictures = by_parts(
            lambda part: self._window(windows[part]), len(windows), FRAMES * H * W, lr_clip.device
        )
        by_window = pictures.unflatten(0, (B, -1)).unbind(1)
        return torch.cat(_first_predictions(by_window, starts), dim=1)[:, : output_length(N)]

    def _window(self, frames: Tensor) -> Tensor:
        """(B, 4, 3, H, W) -> (B, 7, 3, 4H, 4W)."""
        height, width = frames.shape[-2:]
        pictures = self.reconstruct(self.decode(self.encode(frames))[..., :height, :width])
        base = upscale_bicubic_linear(frames) if self.global_skip else upscale_trilinear(frames)
        return pictures + base

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Images (B, 4, 3, H, W) -> the dictionary: maps (B, 4, C, h, w) of each scale."""
        height, width = frames.shape[-2:]
        features = F.leaky_relu(self.conv_first(as_images(frames)), FIRST_SLOPE)
        features = F.pad(features, (0, -width % SMALLEST, 0, -height % SMALLEST))
        dictionary = []
        for stage, downsample in zip(self.encoder, self.downsample, strict=True):
            dictionary.append(stage(as_clip(features, len(frames))))
            if len(dictionary) < STAGES:
                features = downsample(as_images(dictionary[-1]))
        return dictionary

    def decode(self, dictionary: list[Tensor]) -> Tensor:
        """The dictionary of each scale -> maps of all frames in time (B, 7, C, Hp, Wp)."""
        known = dictionary[-1]
        queries = interleave(known, (known[:, :-1] + known[:, 1:]) / 2)
        for i, stage in enumerate(self.decoder):
            if i:
                queries = as_clip(self.upsample[i - 1](as_images(queries)), len(queries))
            queries = stage(queries, dictionary[-1 - i])
        return queries

    def reconstruct(self, queries: Tensor) -> Tensor:
        """Pictures (B, 7, 3, 4H, 4W) from maps (B, 7, C, H, W)."""
        pictures = by_bands(self._enlarge, queries.flatten(0, 1), halo=2, scale=self.scale)
        return as_clip(pictures, len(queries))

    def _enlarge(self, features: Tensor) -> Tensor:
        """See `make_pictures`."""
        return make_pictures(features, self.upsample1, self.upsample2, self.conv_hr, self.conv_last)


def upscale_trilinear(frames: Tensor) -> Tensor:
    """Enlarge a clip as one volume, from 4 x H x W to 7 x 4H x 4W, as the published network does.

    In time too the volumes' borders coincide, not their first and last frames: output frame j is
    at input frame (j + 1/2) * 4/7 - 1/2, so the frames that are given are not where they were.

    Args:
        frames: (B, 4, 3, H, W).

    Returns:
        (B, 7, 3, 4H, 4W).
    """
    images = F.interpolate(frames.flatten(0, 1), scale_factor=StvsrModel.scale, mode="bilinear")
    large = as_clip(images, len(frames))
    mixed = []
    for j in range(QUERIES):
        place = min(max((j + 0.5) * FRAMES / QUERIES - 0.5, 0.0), FRAMES - 1.0)
        before = min(int(place), FRAMES - 2)
        mixed.append(torch.lerp(large[:, before], large[:, before + 1], place - before))
    return torch.stack(mixed, dim=1)


def _first_predictions(pictures: tuple[Tensor, ...], starts: tuple[int, ...]) -> list[Tensor]:
    """Of each window's frames (B, 7, ...), those that no window before it has made."""
    kept, made = [], 0
    for window, start in zip(pictures, starts, strict=True):
        kept.append(window[:, made - 2 * start :])
        made = 2 * start + QUERIES
    return kept


def _initialise(module: nn.Module) -> None:
    """RSTT's Linears start normal; the published truncation, at 100 deviations, never acts."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
