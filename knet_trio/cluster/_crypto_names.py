"""The cipher, hash and model that a key is used with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from knet_trio._crypto.aead import MODEL, check_names
from knet_trio.config import MIN_KEY_SIZE, CryptoConfig, is_aead

CRYPTO_NAMES: Final = ("cipher", "hash", "model")
"""The names of the fields of ``CryptoNames``."""
_BELOW: Final = ("cipher", "hash")
"""The names whose defaults follow from the model."""


@attrs.frozen
class CryptoNames:
    """The names of a ``CryptoConfig``, without its key.

    Attributes:
        cipher: The cipher.
        hash: The hash, ``none`` with model ``aead``.
        model: The model.
    """

    cipher: str = "aes256"
    hash: str = "sha256"
    model: str = "openssl"

    @classmethod
    def of(cls, config: CryptoConfig) -> CryptoNames:
        """Return the names of a configuration, in lower case."""
        return cls(config.cipher.lower(), config.hash.lower(), config.model.lower())

    def make(self, key: bytes) -> CryptoConfig:
        """Return a configuration with ``key`` and these names."""
        return CryptoConfig(key, self.cipher, self.hash, self.model)

    def change(
        self, cipher: str | None = None, hash: str | None = None, model: str | None = None
    ) -> CryptoNames:
        """Return a copy with some names replaced.

        If the model changes to or from ``aead``, cipher and hash that are not given become the
        defaults of the new model.

        Args:
            cipher: The new cipher, None to keep it.
            hash: The new hash, None to keep it.
            model: The new model, None to keep it.

        Returns:
            The names.
        """
        base = self
        if model is not None and is_aead(model) != is_aead(self.model):
            base = CryptoNames.of(CryptoConfig(bytes(MIN_KEY_SIZE), model=model))
        return CryptoNames(
            base.cipher if cipher is None else cipher,
            base.hash if hash is None else hash,
            base.model if model is None else model,
        )

    def check(self) -> None:
        """Check that the cipher, hash and model exist and go together.

        Raises:
            InvalidArgumentError: They do not.
        """
        check_names(self.make(bytes(MIN_KEY_SIZE)))

    def is_same_envelope(self, other: CryptoNames) -> bool:
        """Return whether both are the same on the wire; the crypto library may differ."""
        return (self.cipher, self.hash, is_aead(self.model)) == (
            other.cipher,
            other.hash,
            is_aead(other.model),
        )

    def describe_edit(self, in_file: CryptoNames) -> str:
        """Return what to write into ``[cluster]`` of a cluster file to get these names, in words.

        Args:
            in_file: The names that the file has now, defaults included.
        """
        if is_aead(self.model) == is_aead(in_file.model):
            needed = [name for name in _BELOW if getattr(self, name) != getattr(in_file, name)]
            return f"write {self._as_lines(needed)} into [cluster]"
        usual = CryptoNames.of(CryptoConfig(bytes(MIN_KEY_SIZE), model=self.model))
        follows = [name for name in _BELOW if getattr(self, name) == getattr(usual, name)]
        needed = ["model", *(name for name in _BELOW if name not in follows)]
        advice = f"write {self._as_lines(needed)} into [cluster]"
        if follows:
            verb = "follow" if follows[1:] else "follows"
            advice += f", without {' and '.join(follows)}, which {verb} from the model"
        return advice

    def _as_lines(self, names: Iterable[str]) -> str:
        return " and ".join(f'{name} = "{getattr(self, name)}"' for name in names)

    def describe(self) -> str:
        """Return the names in words."""
        if is_aead(self.model):
            return f"model {MODEL} and {self.cipher}"
        return f"{self.cipher} and {self.hash}"
