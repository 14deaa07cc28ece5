"""Makes the pictures of the products: one shape in one colour on white, 96 by 96 pixels.

`python make_pictures.py` writes them beside itself. They are in the repository already; run it
again after a change of PICTURES. What a picture shows is in its name, so that a test can tell.
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

SIZE = 96
BACKGROUND = (255, 255, 255)
COLOURS = {
    "red": (204, 32, 32),
    "orange": (240, 130, 20),
    "yellow": (245, 205, 30),
    "green": (40, 150, 60),
    "blue": (35, 80, 200),
    "purple": (125, 50, 160),
    "pink": (240, 130, 170),
    "brown": (120, 75, 40),
    "black": (25, 25, 25),
    "grey": (140, 140, 140),
}
# Whether a point is in the shape; both coordinates go from -1 to 1, and y points down.
SHAPES: dict[str, Callable[[float, float], bool]] = {
    "circle": lambda x, y: x * x + y * y <= 0.64,
    "ring": lambda x, y: 0.25 <= x * x + y * y <= 0.64,
    "square": lambda x, y: max(abs(x), abs(y)) <= 0.7,
    "diamond": lambda x, y: abs(x) + abs(y) <= 0.85,
    "triangle": lambda x, y: -0.7 <= y <= 0.7 and abs(x) <= (y + 0.7) / 1.75,
    "cross": lambda x, y: min(abs(x), abs(y)) <= 0.25 and max(abs(x), abs(y)) <= 0.75,
    "stripes": lambda x, y: max(abs(x), abs(y)) <= 0.8 and int((y + 1) * 8) % 2 == 0,
}
PICTURES = [
    ("circle", "red"), ("circle", "blue"), ("circle", "green"), ("circle", "black"),
    ("ring", "orange"), ("ring", "grey"), ("ring", "pink"), ("ring", "yellow"),
    ("square", "blue"), ("square", "brown"), ("square", "grey"), ("square", "purple"),
    ("diamond", "green"), ("diamond", "pink"), ("diamond", "black"),
    ("triangle", "red"), ("triangle", "yellow"), ("triangle", "orange"),
    ("cross", "red"), ("cross", "green"), ("cross", "black"),
    ("stripes", "blue"), ("stripes", "red"), ("stripes", "grey"),
]  # fmt: skip


def pixels(shape: str, colour: str) -> bytes:
    """Draw a shape in a colour; return three bytes a pixel, row by row from the top."""
    ink, paper = bytes(COLOURS[colour]), bytes(BACKGROUND)
    is_inside = SHAPES[shape]
    middle = (SIZE - 1) / 2
    steps = [(i - middle) / middle for i in range(SIZE)]
    return b"".join(ink if is_inside(x, y) else paper for y in steps for x in steps)


def png(drawn: bytes) -> bytes:
    """Wrap pixels into a PNG file, by the chunks that https://www.w3.org/TR/png-3/ demands."""
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)
    width = SIZE * 3
    rows = b"".join(b"\0" + drawn[at : at + width] for at in range(0, len(drawn), width))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def main() -> None:
    """Write the pictures beside this file."""
    for shape, colour in PICTURES:
        path = Path(__file__).parent / f"{shape}-{colour}.png"
        path.write_bytes(png(pixels(shape, colour)))


if __name__ == "__main__":
    main()
