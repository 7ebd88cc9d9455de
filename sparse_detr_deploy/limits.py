"""How much an artefact may claim. Far more than a detector of this family has; beyond it a file is damaged or hostile.

The exporter refuses what a reader would refuse, so that no file is written that cannot be read.
"""

from __future__ import annotations

MOST_METADATA_BYTES = 16 * 2**20  # of a JSON document in UTF-8: a hundred times what class names and reports take
MOST_SIDE = 65_536  # pixels
MOST_PIXELS = 2**28  # of all images of a batch: 3.2 GB as float32, which a warm-up allocates
MOST_BATCH = 4096
MOST_LEVELS = 8
MOST_QUERIES = 100_000
MOST_CLASSES = 100_000
MOST_DETECTIONS = 1_000_000  # of an image
MOST_NAME_CHARACTERS = 1000  # of one class
MOST_NAMES_BYTES = 2 * 2**20  # of all class names in UTF-8; JSON takes up to six times as much
MOST_TEXT_CHARACTERS = 200  # of an architecture, a version or a precision
LEAST_STD, MOST_STD, MOST_MEAN = 1e-4, 1e4, 1e4  # of the 0..1 scale; 1/255 is what pixels as they are take
MOST_GMACS = 1e9
MOST_MODEL_SIZE = 65_536  # of a width, a number of heads or of points


def names_fault(names: tuple[str, ...]) -> str | None:
    """Why ``names`` cannot be class names; ``None`` where they can."""
    if len(names) > MOST_CLASSES:
        return f"{len(names):,} names, but {MOST_CLASSES:,} are possible"
    longest = max(map(len, names), default=0)
    if longest > MOST_NAME_CHARACTERS:
        return f"a name of {longest:,} characters, but {MOST_NAME_CHARACTERS:,} are possible"
    try:
        total = sum(len(name.encode("utf-8")) for name in names)
    except UnicodeEncodeError:
        return "a name with half of a surrogate pair, which no file or terminal takes"
    if total > MOST_NAMES_BYTES:
        return f"names of {total:,} bytes together, but {MOST_NAMES_BYTES:,} are possible"
    return None


def canvas_fault(height: int, width: int, largest_batch: int) -> str | None:
    """Why images cannot be so large, or so many at once; ``None`` where they can."""
    if max(height, width) > MOST_SIDE:
        return f"a canvas of {height}×{width}, but {MOST_SIDE:,} pixels a side are possible"
    if largest_batch > MOST_BATCH:
        return f"a batch of {largest_batch}, but {MOST_BATCH:,} images are possible"
    if height * width * largest_batch > MOST_PIXELS:
        return f"a canvas of {height}×{width} in batches of {largest_batch}, but {MOST_PIXELS:,} pixels a batch are possible"
    return None
