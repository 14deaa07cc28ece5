"""all-MiniLM-L6-v2 in numpy: six layers of BERT, the mean of their tokens, brought to length 1.

The weights and the tokenizer are those of the package that carries them; nothing of PyTorch is
needed to run a model of 22 million parameters (https://huggingface.co/sentence-transformers/
all-MiniLM-L6-v2: architecture, pooling, and a text cut at 256 tokens).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from batch_server.extras import EMBEDDINGS, EMBEDDINGS_PACKAGE
from batch_server.problems import BatchServerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

MODEL_NAME: Final = "all-MiniLM-L6-v2"
DIMENSIONS: Final = 384
MAX_TOKENS: Final = 256
# Of the `model.safetensors` that its makers published; another file under its name is noticed.
PACKAGED_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_LAYERS, _HEADS = 6, 12
_LAYER_NORM_EPS = 1e-12
_HIDDEN = -1e9
# Abramowitz and Stegun, 7.1.26: erf to 1.5e-7, which is what a float holds.
_ERF_P = 0.3275911
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def packaged_identity() -> str:
    """Return who answers: `minilm:<sha256 of the weights>`."""
    return f"minilm:{PACKAGED_SHA256}"


class MiniLm:
    """The model, loaded.

    Raises:
        SetupError: The extra `embeddings` is not installed.
        BatchServerError: The packaged weights are not what they should be.
    """

    def __init__(self) -> None:
        directory = _checked_directory()
        # Threads of ours take a part of the texts each; those of the numbers' library, which read
        # this as it is loaded, would wait for each other in a loop.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self._weights: dict[str, Floats] = load_file(directory / "model.safetensors")
        self._tokenizer: Any = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=MAX_TOKENS)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, with those that begin and end it, 256 at most."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def embed(self, tokens: Sequence[Sequence[int]]) -> Floats:
        """Return the vector of each text, of length 1.

        Args:
            tokens: The texts' tokens. Texts of like length together take the least time.
        """
        import numpy as np

        longest = max(map(len, tokens))
        ids = np.zeros((len(tokens), longest), dtype=np.int64)
        mask = np.zeros((len(tokens), longest), dtype=np.float32)
        for row, known in enumerate(tokens):
            ids[row, : len(known)] = known
            mask[row, : len(known)] = 1
        hidden = self._embedded(ids)
        hidden_from = (1 - mask)[:, None, None, :] * np.float32(_HIDDEN)
        for layer in range(_LAYERS):
            hidden = self._layer(f"encoder.layer.{layer}", hidden, hidden_from)
        summed = (hidden * mask[:, :, None]).sum(axis=1)
        mean: Floats = summed / mask.sum(axis=1, keepdims=True)
        normed: Floats = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return normed

    def _embedded(self, ids: NDArray[np.int64]) -> Floats:
        weights = self._weights
        words = weights["embeddings.word_embeddings.weight"][ids]
        places = weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        kinds = weights["embeddings.token_type_embeddings.weight"][0]
        return self._norm("embeddings.LayerNorm", words + places + kinds)

    def _layer(self, name: str, hidden: Floats, hidden_from: Floats) -> Floats:
        attended = self._dense(
            f"{name}.attention.output.dense",
            self._attention(f"{name}.attention.self", hidden, hidden_from),
        )
        hidden = self._norm(f"{name}.attention.output.LayerNorm", hidden + attended)
        inner = _gelu(self._dense(f"{name}.intermediate.dense", hidden))
        outer = self._dense(f"{name}.output.dense", inner)
        return self._norm(f"{name}.output.LayerNorm", hidden + outer)

    def _attention(self, name: str, hidden: Floats, hidden_from: Floats) -> Floats:
        import numpy as np

        texts, length, width = hidden.shape
        per_head = width // _HEADS

        def heads(part: str) -> Floats:
            values = self._dense(f"{name}.{part}", hidden)
            return values.reshape(texts, length, _HEADS, per_head).transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").transpose(0, 1, 3, 2)
        scores = scores / np.float32(per_head**0.5) + hidden_from
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        attention = scores / scores.sum(axis=-1, keepdims=True)
        together: Floats = (attention @ heads("value")).transpose(0, 2, 1, 3)
        return together.reshape(texts, length, width)

    def _dense(self, name: str, values: Floats) -> Floats:
        made: Floats = values @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return made

    def _norm(self, name: str, values: Floats) -> Floats:
        import numpy as np

        centred = values - values.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(_LAYER_NORM_EPS))
        made: Floats = (
            centred / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        )
        return made


def _gelu(values: Floats) -> Floats:
    """Return x times the share of a normal distribution below it, as the makers have it."""
    import numpy as np

    scaled = np.abs(values) * np.float32(0.5**0.5)
    share = np.float32(1) / (np.float32(1) + np.float32(_ERF_P) * scaled)
    sum_of_powers = np.zeros_like(values)
    for factor in _ERF:
        sum_of_powers = (sum_of_powers + np.float32(factor)) * share
    erf = np.sign(values) * (np.float32(1) - sum_of_powers * np.exp(-scaled * scaled))
    made: Floats = np.float32(0.5) * values * (np.float32(1) + erf)
    return made


def _checked_directory() -> Path:
    """Return where the packaged weights lie, once they are known to be the ones they should be."""
    EMBEDDINGS.require("the packaged embedding model")
    directory = Path(str(import_module(EMBEDDINGS_PACKAGE).get_model_path()))
    path = directory / "model.safetensors"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BatchServerError(
            f"a part of the packaged embedding model is missing ({error})",
            fix=f"install it anew: {EMBEDDINGS.install}",
        ) from error
    if digest != PACKAGED_SHA256 or config.get("hidden_size") != DIMENSIONS:
        raise BatchServerError(
            f"the packaged embedding model has the SHA-256 {digest} in place of {PACKAGED_SHA256}",
            fix=f"install it anew: {EMBEDDINGS.install}",
        )
    return directory
