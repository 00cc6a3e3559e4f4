"""Item images from a folder: one file an item, its name the item's id."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recsys_ae.errors import ConfigError
from recsys_ae.ids import Id, IdKind, IdMap, parse_id
from recsys_ae.latent.images import SIDE, Pixels

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
LARGEST_PIXELS = 50_000_000
"""Of an image: a small file may unpack to more than the memory holds."""


@dataclass(frozen=True, eq=False)
class ItemImages:
    """Images of items, and of each file that is none why it was left out."""

    items: IdMap
    pixels: Pixels
    skipped: dict[str, str] = field(default_factory=dict)


def read_images(folder: Path, kind: IdKind) -> ItemImages:
    """All images of a folder in the order of their names, fitted into a square. Nothing of a file but its pixels is kept.

    Grey ones become coloured, what is transparent white, of a moving one the first picture counts. Files that are no images,
    damaged, too large or not named for an id of that kind are left out with the reason; other files are not looked at.

    Raises ConfigError where the folder is none, or holds no image that can be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; expected one of images, ITEM_ID.png or .jpg")
    found: dict[Id, np.ndarray] = {}
    skipped: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        id_ = parse_id(path.stem, kind)
        if kind == "integer" and not isinstance(id_, int):
            skipped[path.name] = f"its name is no {kind} id"
        elif id_ in found:
            skipped[path.name] = f"another file is of item {id_}"
        else:
            try:
                found[id_] = _square(path)
            except _UnreadableError as error:
                skipped[path.name] = str(error)
    if not found:
        first = next((f"; {name}: {why}" for name, why in skipped.items()), "")
        raise ConfigError(f"{folder} has no image that can be read{first}; expected ITEM_ID.png or .jpg")
    return ItemImages(IdMap(tuple(found)), np.stack(list(found.values())), skipped)


class _UnreadableError(Exception):
    pass


def _square(path: Path) -> np.ndarray:
    """(SIDE, SIDE, 3) bytes, the image centred on white. Raises _UnreadableError, which says why."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata, and of a size that is judged below
            with Image.open(path) as image:
                width, height = image.size
                if width * height > LARGEST_PIXELS:
                    raise _UnreadableError(f"{width} x {height} pixels; expected at most {LARGEST_PIXELS:,}")
                image.draft("RGB", (2 * SIDE, 2 * SIDE))  # JPEG alone: unpacked no larger than needed
                upright = ImageOps.exif_transpose(image).convert("RGBA")
    except _UnreadableError:
        raise
    except Image.DecompressionBombError:
        raise _UnreadableError(f"more than {LARGEST_PIXELS:,} pixels") from None
    except MemoryError:
        raise _UnreadableError("it does not fit the memory") from None
    except Exception as error:  # decoders raise what they like on damaged bytes
        raise _UnreadableError(f"it cannot be read as an image ({type(error).__name__})") from None
    upright.thumbnail((SIDE, SIDE))
    square = Image.new("RGBA", (SIDE, SIDE), "white")
    square.alpha_composite(upright, ((SIDE - upright.width) // 2, (SIDE - upright.height) // 2))
    return np.asarray(square.convert("RGB"))
