"""Synthetic scenes whose regions are known: textured objects on textured ground, from a seed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]
SIDE = 128


@dataclass(frozen=True)
class Scene:
    """A photograph and the region of each of its pixels: 0 the ground, then one for each object."""

    photograph: Image.Image
    regions: NDArray[np.uint8]


def make_scenes(count: int, *, seed: int) -> list[Scene]:
    """Scenes of 128 x 128 pixels."""
    random = np.random.default_rng(seed)
    return [_scene(random) for _ in range(count)]


def write_scenes(folder: Path, scenes: list[Scene]) -> Path:
    """The photographs alone, as files."""
    folder.mkdir(exist_ok=True)
    for number, scene in enumerate(scenes):
        scene.photograph.save(folder / f"{number:04d}.png")
    return folder


def _scene(random: np.random.Generator) -> Scene:
    """Two or three objects, each of a texture of its own, under light that falls off to one side."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    regions = np.zeros((SIDE, SIDE), np.uint8)
    kinds = random.permutation(len(_TEXTURES))
    image = _texture(int(kinds[0]), rows, columns, random)
    for number in range(1, int(random.integers(2, 4)) + 1):
        inside = _shape(rows, columns, random)
        regions[inside] = number
        image[inside] = _texture(int(kinds[number]), rows, columns, random)[inside]
    direction = random.uniform(0, 2 * np.pi)
    light = 1 + 0.35 * (np.cos(direction) * (rows - 0.5) + np.sin(direction) * (columns - 0.5)) * 2
    image = image * light[..., None] + random.normal(0, 0.03, image.shape)
    return Scene(Image.fromarray((255 * image.clip(0, 1)).astype(np.uint8)), regions)


def _shape(rows: Floats, columns: Floats, random: np.random.Generator) -> NDArray[np.bool_]:
    """An ellipse or a rectangle, turned by any angle, somewhere in the middle."""
    row, column = random.uniform(0.2, 0.8, 2)
    tall, wide = random.uniform(0.14, 0.28, 2)
    turn = random.uniform(0, np.pi)
    along = (np.cos(turn) * (rows - row) + np.sin(turn) * (columns - column)) / tall
    across = (-np.sin(turn) * (rows - row) + np.cos(turn) * (columns - column)) / wide
    found: NDArray[np.bool_] = (
        along**2 + across**2 < 1 if random.random() < 0.5 else np.maximum(np.abs(along), np.abs(across)) < 0.85
    )
    return found


def _texture(kind: int, rows: Floats, columns: Floats, random: np.random.Generator) -> Floats:
    """Two colours mixed by a pattern: (SIDE, SIDE, 3) in 0..1."""
    first, second = random.uniform(0.1, 0.9, (2, 3))
    turn, phase = random.uniform(0, np.pi), random.uniform(0, 2 * np.pi, 2)
    along = 2 * np.pi * (np.cos(turn) * rows + np.sin(turn) * columns)
    across = 2 * np.pi * (-np.sin(turn) * rows + np.cos(turn) * columns)
    share = _TEXTURES[kind](along, across, phase, random)
    return np.asarray(first + share[..., None] * (second - first))


def _stripes(along: Floats, _: Floats, phase: Floats, __: np.random.Generator) -> Floats:
    return (np.sin(10 * along + phase[0]) > 0).astype(np.float64)


def _waves(along: Floats, across: Floats, phase: Floats, _: np.random.Generator) -> Floats:
    return np.asarray((1 + np.sin(6 * along + phase[0] + 2 * np.sin(4 * across))) / 2)


def _checks(along: Floats, across: Floats, phase: Floats, _: np.random.Generator) -> Floats:
    return (np.sin(8 * along + phase[0]) * np.sin(8 * across + phase[1]) > 0).astype(np.float64)


def _dots(along: Floats, across: Floats, phase: Floats, _: np.random.Generator) -> Floats:
    return (np.sin(12 * along + phase[0]) + np.sin(12 * across + phase[1]) > 1).astype(np.float64)


def _speckle(along: Floats, _: Floats, __: Floats, random: np.random.Generator) -> Floats:
    return random.random(along.shape)


_TEXTURES = (_stripes, _waves, _checks, _dots, _speckle)


def mean_best_iou(maps: list[NDArray[np.uint8]], scenes: list[Scene]) -> float:
    """How well label maps of any size name the true regions: for each region the best intersection over union that a
    label of its photograph reaches, and the mean over all regions of all scenes."""
    found = []
    for labels, scene in zip(maps, scenes, strict=True):
        rows, columns = (np.arange(SIDE) * length // SIDE for length in labels.shape)
        upsampled = labels[np.ix_(rows, columns)]
        masks = [upsampled == label for label in np.unique(upsampled)]
        for region in np.unique(scene.regions):
            true = scene.regions == region
            found.append(max((true & mask).sum() / (true | mask).sum() for mask in masks))
    return float(np.mean(found))
