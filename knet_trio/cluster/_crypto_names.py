"""With which cipher, hash and model a key is used."""

from __future__ import annotations

from typing import Final

import attrs

from knet_trio._crypto.aead import MODEL, check_names
from knet_trio.config import MIN_KEY_SIZE, CryptoConfig, is_aead

CRYPTO_NAMES: Final = ("cipher", "hash", "model")
"""What they are called."""


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
        """Return the names of a configuration, in small letters."""
        return cls(config.cipher.lower(), config.hash.lower(), config.model.lower())

    def make(self, key: bytes) -> CryptoConfig:
        """Return the configuration of a key with these names."""
        return CryptoConfig(key, self.cipher, self.hash, self.model)

    def change(
        self, cipher: str | None = None, hash: str | None = None, model: str | None = None
    ) -> CryptoNames:
        """Return these names with others in their places.

        Where the model goes over to ``aead``, or back, cipher and hash that are not given are the
        usual ones of that.
        """
        base = self
        if model is not None and is_aead(model) != is_aead(self.model):
            base = CryptoNames.of(CryptoConfig(bytes(MIN_KEY_SIZE), model=model))
        return CryptoNames(cipher or base.cipher, hash or base.hash, model or base.model)

    def check(self) -> None:
        """Raise InvalidArgumentError if there is no such envelope."""
        check_names(self.make(bytes(MIN_KEY_SIZE)))

    def is_same_envelope(self, other: CryptoNames) -> bool:
        """Return whether both are the same on the wire, whichever library makes them there."""
        return (self.cipher, self.hash, is_aead(self.model)) == (
            other.cipher,
            other.hash,
            is_aead(other.model),
        )

    def as_lines(self) -> str:
        """Return what a cluster file says of them."""
        names = CRYPTO_NAMES if not is_aead(self.model) else ("cipher", "model")
        return " and ".join(f'{name} = "{getattr(self, name)}"' for name in names)

    def describe(self) -> str:
        """Return them in words."""
        if is_aead(self.model):
            return f"model {MODEL} and {self.cipher}"
        return f"{self.cipher} and {self.hash}"
