"""Small real pictures, made by code: a colour and a size tell them apart."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib

RED, GREEN, BLUE = (255, 0, 0), (0, 160, 0), (0, 0, 255)


def png(
    colour: tuple[int, int, int] = RED, width: int = 8, height: int = 8, *, pad: int = 0
) -> bytes:
    """Return a PNG of one colour; `pad` adds so many bytes that compress badly."""
    row = b"\x00" + bytes(colour) * width
    chunks = [
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        _chunk(b"IDAT", zlib.compress(row * height)),
    ]
    if pad:
        noise = bytes((i * 7919 + colour[0] + i // 251) % 256 for i in range(min(pad, 4096)))
        chunks.append(_chunk(b"prVt", (noise * (pad // len(noise) + 1))[:pad]))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# The smallest that Pillow writes: 6 by 4 pixels, all of one colour.
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQ"
    "c1tdhbWGkJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCAAEAAYDASIAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAA"
    "AAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAk"
    "M2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKT"
    "lJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/8QA"
    "HwEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdh"
    "cRMiMoEIFEKRobHBCSMzUvAVYnLRChYkNOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hp"
    "anN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk"
    "5ebn6Onq8vP09fb3+Pn6/9oADAMBAAIRAxEAPwCjRRRXOewf/9k="
)
WEBP = base64.b64decode(
    "UklGRjIAAABXRUJQVlA4ICYAAABwAQCdASoGAAQAB0CWJaACdAFAAAD+5AFjCaSdH8zfhR8nUAAAAA=="
)
GIF = base64.b64decode("R0lGODdhBgAEAIEAAMgeHgAAAAAAAAAAACwAAAAABgAEAAAICwABCBxIsKDBgQEBADs=")
ANIMATED_GIF = base64.b64decode(
    "R0lGODlhBgAEAIEAAP8AAAAAAAAAAAAAACH5BAAKAAAALAAAAAAGAAQAAAgLAAEIHEiwoMGBAQEAIfkEAQoAAQAs"
    "AAAAAAYABACBAAD/AAAAAAAAAAAACAsAAQgcSLCgwYEBAQA7"
)


def data_address(data: bytes, media_type: str = "image/png") -> str:
    """Return a picture as a `data:` address."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def shown(data: bytes) -> str:
    """Return what the scripted responder says of a picture: the begin of its bytes' digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()[:16]}"
