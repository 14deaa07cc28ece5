"""What one batch input file may hold, at the service that takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Azure's guide and OpenAI's say 200 MB. Both leave open which megabyte is meant, so the smaller one
# is taken, less two per cent.
MAX_FILE_BYTES: Final = 196_000_000
# Azure's limits of batches with an own storage: 1 GB (learn.microsoft.com/azure/ai-foundry/openai/
# how-to/batch, "Batch limits"); the smaller gigabyte, less two per cent.
MAX_BLOB_BYTES: Final = 980_000_000


@dataclass(frozen=True)
class ServiceLimits:
    """What one input file may hold."""

    max_requests: int
    max_bytes: int


@dataclass(frozen=True)
class ImageLimits:
    """What a service takes of pictures.

    Attributes:
        per_request: Pictures in one request.
        max_bytes: Bytes of one picture, before it is base64.
        request_bytes: Bytes of all pictures of a request, as base64: of a file, which a request
            must fit into.
    """

    # https://developers.openai.com/api/docs/guides/images-vision: 1,500 in a request. Of a larger
    # picture the service says "make sure your image is below 20 MB in size".
    per_request: int = 1_500
    max_bytes: int = 20_000_000
    request_bytes: int = MAX_FILE_BYTES - 1_000_000
