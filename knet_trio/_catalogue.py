"""Lists of transports, algorithms and models, with libknet's names and numbers.

Names are in lower case; as arguments, their case does not matter. See the knet_get pages of
libknet's manual.
"""

from __future__ import annotations

from knet_trio import _compress
from knet_trio._crypto.aead import AEAD_NAMES
from knet_trio._crypto.envelope import CIPHER_NAMES, HASH_NAMES, NONE
from knet_trio._crypto.envelope import MODELS as CRYPTO_MODELS
from knet_trio._transport import TRANSPORT_IDS
from knet_trio.config import is_aead
from knet_trio.errors import InvalidArgumentError, shown


def get_transport_list() -> list[str]:
    """Return the names of the transports for ``add_link``, in the order of their ids.

    SCTP is included even if the kernel does not support it.

    See knet_get_transport_list(3).
    """
    return sorted(TRANSPORT_IDS, key=TRANSPORT_IDS.__getitem__)


def get_transport_name(transport_id: int) -> str:
    """Return the name of a transport.

    Args:
        transport_id: The number: 0 is ``loopback``, 1 ``udp``, 2 ``sctp``.

    Raises:
        InvalidArgumentError: No transport has this number.

    See knet_get_transport_name_by_id(3).
    """
    for name, number in TRANSPORT_IDS.items():
        if number == transport_id and not isinstance(transport_id, bool):
            return name
    raise InvalidArgumentError(
        f"there is no transport {shown(transport_id)}: choose one of {_known()}"
    )


def get_transport_id(name: str) -> int:
    """Return the number of a transport.

    Args:
        name: The name, in upper or lower case.

    Raises:
        InvalidArgumentError: No transport has this name.

    See knet_get_transport_id_by_name(3).
    """
    try:
        return TRANSPORT_IDS[name.lower()]
    except (KeyError, AttributeError):
        raise InvalidArgumentError(
            f"there is no transport {shown(name)}: choose one of {_known()}"
        ) from None


def get_crypto_list() -> list[str]:
    """Return the models for ``CryptoConfig`` that libknet has, too.

    knet_trio has one more, ``aead``: see ``docs/aead.md``.

    See knet_get_crypto_list(3).
    """
    return list(CRYPTO_MODELS)


def get_cipher_list(model: str = "openssl") -> list[str]:
    """Return the ciphers of a model for ``CryptoConfig``.

    Several names may stand for one cipher, such as ``aes256``, ``aes-256``, ``aes256-cbc`` and
    ``aes-256-cbc``.

    Args:
        model: The model. All but ``aead`` have the same ciphers.

    See knet_get_crypto_cipher_list(3).
    """
    return list(AEAD_NAMES if is_aead(model) else CIPHER_NAMES)


def get_hash_list(model: str = "openssl") -> list[str]:
    """Return the hashes of a model for ``CryptoConfig``.

    Args:
        model: The model. All but ``aead``, which has only ``none``, return the same list;
            ``nss`` does not accept ``sha224``.

    See knet_get_crypto_hash_list(3).
    """
    return [NONE] if is_aead(model) else list(HASH_NAMES)


def get_compress_list() -> list[str]:
    """Return the installed models for ``CompressConfig``, in the order of their ids.

    See knet_get_compress_list(3).
    """
    return [model for model in _compress.MODELS if _compress.is_usable(model)]


def _known() -> str:
    return ", ".join(f"{name} ({TRANSPORT_IDS[name]})" for name in get_transport_list())
