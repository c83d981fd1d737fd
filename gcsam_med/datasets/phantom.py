"""A synthetic breast on a synthetic scanner: one B-mode-like image with its lesion masks.

The image is made the way a scanner makes one. Tissue is a field of point scatterers, each a circular complex
Gaussian number, whose strength follows an echogenicity map (fully developed speckle: Burckhardt, "Speckle in
Ultrasound B-Mode Scans", IEEE Trans. Sonics Ultrason. 25 (1978), doi 10.1109/T-SU.1978.30978). The field is
convolved with a point spread function that widens away from the focus, the envelope is detected, compressed
logarithmically and scan-converted to pixels. Shadow and enhancement are attenuation summed along the beam.

What tells the classes apart is form, as in the BI-RADS ultrasound lexicon (shape, orientation, margin,
posterior features). The contrast of a lesion against the tissue around it is drawn from one distribution for
both classes, so that brightness alone does not give the class away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

Kind = Literal["benign", "malignant", "normal"]
Array = NDArray[np.float32]

# Waves around the margin and their strength: few and soft, or many and sharp.
BENIGN_WAVES = ((2, 0.06), (3, 0.09), (4, 0.06))
MALIGNANT_WAVES = ((2, 0.06), (3, 0.08))
# Samples along the beam and beams across: fewer than pixels, as in a real probe; the rest is interpolation.
SAMPLES, BEAMS = 320, 256


@dataclass(frozen=True)
class Picture:
    """One synthetic image."""

    image: NDArray[np.uint8]  #: ndarray of uint8, shape (H, W): Grey values.
    #: tuple of ndarray of bool, shape (H, W): One mask a lesion; they do not touch. Empty for a normal image.
    lesions: tuple[NDArray[np.bool_], ...]


@dataclass
class _Window:
    """What the scanner looks at, on its own grid (depth downwards, in mm)."""

    rng: np.random.Generator
    depth: float
    width: float
    z: Array = field(init=False)
    x: Array = field(init=False)

    def __post_init__(self) -> None:
        self.z = np.linspace(0, self.depth, SAMPLES, dtype=np.float32)[:, None]
        self.x = np.linspace(0, self.width, BEAMS, dtype=np.float32)[None, :]

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def noise(self, tall: float, wide: float) -> Array:
        """Smooth random field of unit variance whose features are `tall` x `wide` mm."""
        shape = (max(2, round(self.depth / tall) + 1), max(2, round(self.width / wide) + 1))
        coarse = self.rng.standard_normal(shape, dtype=np.float32)
        smooth = np.asarray(Image.fromarray(coarse).resize((BEAMS, SAMPLES), Image.Resampling.BICUBIC))
        return np.multiply(smooth, 1 / 0.7, dtype=np.float32)

    def wave(self, wide: float) -> Array:
        """Smooth random curve across the beams, shape (1, BEAMS)."""
        coarse = self.rng.standard_normal((1, max(2, round(self.width / wide) + 1)), dtype=np.float32)
        return np.asarray(Image.fromarray(coarse).resize((BEAMS, 1), Image.Resampling.BICUBIC))


@dataclass
class _Tissue:
    """Maps on the scanner's grid."""

    echo: Array  #: Mean backscatter in dB.
    line: Array  #: Amplitude of mirror-like interfaces (fascia, ligaments), 0..1.
    loss: Array  #: Attenuation in dB/mm beyond what the time gain makes good.
    gland: tuple[float, float]  #: Depths in mm between which lesions grow.


def simulate(rng: np.random.Generator, kind: Kind, lesions: int = 1) -> Picture:
    """Make one image of a kind, 400 to 640 pixels wide and 320 to 560 high, from random numbers alone.

    `lesions` is how many to place; fewer where there is no room. A normal image has none.
    """
    pixels_wide, pixels_high = int(rng.integers(400, 640)), int(rng.integers(320, 560))
    width = float(rng.uniform(36, 48))
    window = _Window(rng, depth=width * pixels_high / pixels_wide, width=width)
    tissue = _layers(window)
    margins: list[Array] = []
    for _ in range(0 if kind == "normal" else lesions):
        margin = _place(window, tissue, kind, margins, shrink=1.0 if lesions == 1 else 0.65)
        if margin is not None:
            margins.append(margin)
    # The convolution wraps around, so the rim of the grid is no image.
    inner = np.s_[: SAMPLES - 6, 5 : BEAMS - 5]
    image = np.ascontiguousarray(_scan(window, tissue)[inner])
    size = (pixels_wide, pixels_high)
    grey = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    masks = [
        np.asarray(Image.fromarray(np.ascontiguousarray(m[inner])).resize(size, Image.Resampling.BICUBIC)) > 0
        for m in margins
    ]
    return Picture(np.asarray(grey), tuple(masks))


def _layers(w: _Window) -> _Tissue:
    """Skin, fat with its septa, glandular tissue with fat lobules, muscle with its fibres, chest wall."""
    skin = w.uniform(0.9, 1.7)
    fat = skin + w.uniform(0.08, 0.3) * w.depth
    gland = min(fat + w.uniform(0.3, 0.5) * w.depth, 0.85 * w.depth)
    muscle = gland + w.uniform(0.1, 0.3) * w.depth
    # Layers are laid flat, then bent, the skin least: the probe flattens it. `d` is the depth before.
    bend = w.wave(w.uniform(9, 22)) * w.uniform(0.3, 1.6) + 0.4 * w.noise(5, 9)
    d = w.z - bend * np.minimum(w.z / 8, 1) + 0.1 * w.wave(6)
    in_fat = _step(fat - d, 0.4) * _step(d - skin, 0.1)
    in_gland = _step(d - fat, 0.4) * _step(gland - d, 0.5)
    in_muscle = _step(d - gland, 0.5) * _step(muscle - d, 0.3)
    in_wall = _step(d - muscle, 0.3)
    patches, streaks = w.noise(3, 7), w.noise(0.8, w.uniform(2.5, 6))

    lobules = _step(w.noise(w.uniform(2, 4), w.uniform(4, 8)) - w.uniform(0.9, 1.6), 0.15)
    echo = (
        _step(skin - d, 0.1) * w.uniform(-12, -7)
        + in_fat * (w.uniform(-25, -18) + 1.5 * streaks)
        + in_gland * (w.uniform(-15, -9) + 2.6 * streaks + 2 * patches + w.uniform(-11, -6) * lobules)
        + in_muscle * (w.uniform(-25, -19) + 2.5 * streaks)
        + in_wall * w.uniform(-40, -32)
    )
    brightness = (0.25 + 0.5 * w.noise(2, 5)).clip(0)
    line = 0.22 * np.exp(-(((d - skin) / 0.12) ** 2)) + 0.25 * np.exp(-(((w.z - 0.25) / 0.15) ** 2))
    line += (0.15 + 0.5 * w.wave(7)).clip(0) * w.uniform(0.1, 0.6) * np.exp(-(((d - muscle) / 0.2) ** 2))
    line += brightness * w.uniform(0.0, 0.5) * np.exp(-(((d - gland) / 0.15) ** 2))
    line += in_fat * brightness * w.uniform(0.05, 0.3) * _sheets(w, d, w.uniform(3, 6), 0.7, 0.05)
    line += in_gland * brightness * w.uniform(0.0, 0.25) * _sheets(w, d, w.uniform(1.5, 3), 0.7, 0.08)
    line += in_muscle * brightness * w.uniform(0.05, 0.25) * _sheets(w, d, w.uniform(1.2, 2.2), 0.4, 0.1)

    loss = w.uniform(0.1, 0.5) * (1 + 0.8 * w.noise(9, 5)).clip(0) + 0.5 * in_wall
    return _Tissue(echo, line, loss.astype(np.float32), (fat, gland))


def _sheets(w: _Window, d: Array, period: float, swing: float, thin: float) -> Array:
    """Thin wavy sheets of connective tissue about every `period` mm, 0..1."""
    phase = d / period + swing * w.noise(5, 13)
    return np.exp(-(((phase - np.round(phase)) / thin) ** 2))


def _place(w: _Window, tissue: _Tissue, kind: Kind, others: list[Array], shrink: float) -> Array | None:
    """Grow a lesion into the tissue and give its signed distance map (mm, positive inside)."""
    benign = kind == "benign"
    for attempt in range(16):
        # Wider than tall, or more often taller than wide; the ranges overlap.
        ratio = w.uniform(1.1, 2.2) if benign else w.uniform(0.6, 1.25)
        size = shrink * w.uniform(3.2, 7.5) * 0.94**attempt
        half_wide, half_tall = size * ratio**0.5, size / ratio**0.5
        low, high = tissue.gland
        centre_z = min(max(w.uniform(low, high), half_tall * 1.2 + 2), w.depth - half_tall * 1.2 - 1)
        centre_x = w.uniform(half_wide * 1.2, w.width - half_wide * 1.2)
        dz, dx = w.z - centre_z, w.x - centre_x
        radius, angle = np.hypot(dz, dx), np.arctan2(dz, dx)
        if half_tall * 2.4 + 3 > w.depth or any(
            m[radius < 1.3 * max(half_wide, half_tall)].max() > -1 for m in others
        ):
            continue
        outline, spikes = _outline(w, angle, half_wide, half_tall, benign)
        margin = (outline - radius).astype(np.float32)
        _grow(w, tissue, margin=margin, spikes=spikes, angle=angle, benign=benign)
        return margin
    return None


def _outline(
    w: _Window, angle: Array, half_wide: float, half_tall: float, benign: bool
) -> tuple[Array, Array]:
    """Radius of the margin by angle (mm), and of the spicules beyond it."""
    turn = np.linspace(-np.pi, np.pi, 721, dtype=np.float32)
    tilted = turn - w.uniform(-0.25, 0.25)
    ellipse = half_wide * half_tall / np.hypot(half_tall * np.cos(tilted), half_wide * np.sin(tilted))
    ripple, spikes = np.zeros_like(turn), np.zeros_like(turn)
    finer = () if benign else [(int(w.rng.integers(4, 15)), 0.07) for _ in range(3)]
    for count, strength in (*(BENIGN_WAVES if benign else MALIGNANT_WAVES), *finer):
        ripple += strength * w.uniform(0.3, 1.0) * np.cos(count * turn + w.uniform(0, 2 * np.pi))
    if not benign:
        for _ in range(int(w.rng.integers(3, 12))):
            off = (turn - w.uniform(0, 2 * np.pi) + np.pi) % (2 * np.pi) - np.pi
            spikes += w.uniform(0.2, 0.6) * np.exp(-((off / w.uniform(0.05, 0.14)) ** 2))
    # A part of each spicule belongs to the lesion; its thin end is texture outside the margin.
    nearest = np.round((angle + np.pi) * (720 / (2 * np.pi))).astype(np.int32)
    return (ellipse * (1 + ripple + 0.45 * spikes))[nearest], (ellipse * spikes)[nearest]


def _grow(w: _Window, tissue: _Tissue, *, margin: Array, spikes: Array, angle: Array, benign: bool) -> None:
    """Write a lesion into the maps."""
    soft = w.uniform(0.12, 0.3) if benign else w.uniform(0.25, 0.55)
    inside = _step(margin, soft)
    body = inside if benign else np.maximum(inside, 0.7 * _step(margin + 0.55 * spikes, soft))
    if benign:
        through = -w.uniform(0.35, 0.9) if w.rng.random() < 0.7 else 0.0
    else:
        through = w.uniform(0.7, 2.0) if w.rng.random() < 0.75 else 0.0
    tissue.loss += inside * through
    around = float(tissue.echo[(margin < 0) & (margin > -3)].mean())
    level = around - w.uniform(8, 17) + w.uniform(0.8, 2.0) * w.noise(1.2, 2)
    # The beam's loss inside is made good there, or shadowed lesions would be the darker ones.
    level += through * (w.depth / SAMPLES) * np.cumsum(inside, axis=0)
    tissue.echo += body * (level - tissue.echo)
    tissue.line *= 1 - body
    if benign:
        # A thin capsule mirrors the beam where it lies across it and bends it away where it lies along it.
        rim = np.exp(-(((margin + 0.4) / 0.35) ** 2))
        tissue.line += w.uniform(0.05, 0.25) * rim * np.square(np.square(np.sin(angle)))
        tissue.loss += (
            w.uniform(0, 1.2)
            * np.square(np.square(np.square(np.cos(angle))))
            * np.exp(-((margin / 0.6) ** 2))
        )
    else:
        tissue.echo += w.uniform(1, 5) * np.exp(-(((margin + 1.2) / 0.9) ** 2))


def _scan(w: _Window, tissue: _Tissue) -> NDArray[np.uint8]:
    """Insonify, detect, compress: uint8, shape (SAMPLES, BEAMS)."""
    step = w.depth / SAMPLES
    # The beam is wide, so a shadow's sides are soft.
    loss = ndimage.gaussian_filter1d(tissue.loss, sigma=0.5 * BEAMS / w.width, axis=1)
    through = 10 ** (-np.cumsum(loss, axis=0) * step / 20)
    if w.rng.random() < 0.3:
        # Poor contact at one side of the probe.
        side = w.x if w.rng.random() < 0.5 else w.width - w.x
        through *= 0.05 + 0.95 * _step(side - w.uniform(0, 4) - 0.06 * w.z, 1.2)

    speckle = _complex_normal(w.rng) * 10 ** (tissue.echo / 20)
    mirror = tissue.line * (1 + 0.3 * w.noise(1, 1.5))
    signal = (speckle + 1.2 * mirror) * through

    frequency = fft.fftfreq(BEAMS, d=w.width / BEAMS).astype(np.float32)[None, :]
    focus = w.uniform(0.3, 0.6) * w.depth
    beam = np.hypot(w.uniform(0.16, 0.26), 0.012 * (w.z - focus))
    lateral = np.exp(-2 * (np.pi * beam * frequency) ** 2)
    signal = fft.ifft(fft.fft(signal, axis=1) * lateral * np.sqrt(beam), axis=1)
    frequency = fft.fftfreq(SAMPLES, d=step).astype(np.float32)[:, None]
    pulse = np.exp(-2 * (np.pi * w.uniform(0.07, 0.12) * frequency) ** 2)
    signal = fft.ifft(fft.fft(signal, axis=0) * pulse, axis=0)

    floor = w.uniform(0.0003, 0.0012) * (0.4 + 0.6 * w.z / w.depth)
    envelope = np.abs(signal + floor * _complex_normal(w.rng))
    reach = w.uniform(48, 60)
    level = 20 * np.log10(envelope + 1e-6) + w.uniform(12, 20)
    # Scanners smooth the compressed image a little; without it speckle is harsher than on any screen.
    level = ndimage.gaussian_filter(level, sigma=w.uniform(0.5, 0.9))
    grey = ((level + reach) / reach).clip(0, 1)
    return np.round(255 * grey ** np.float32(w.uniform(1.1, 1.6))).astype(np.uint8)


def _complex_normal(rng: np.random.Generator) -> NDArray[np.complex64]:
    parts = rng.standard_normal((SAMPLES, 2 * BEAMS), dtype=np.float32)
    return parts.view(np.complex64)


def _step(distance: Array, soft: float) -> Array:
    """Go from 0 to 1 over about 4 `soft` around distance 0."""
    return np.float32(0.5) * (1 + np.tanh(distance * np.float32(0.5 / soft)))
