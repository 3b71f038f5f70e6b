"""Log messages about changes of a handle's settings; crypto keys are never logged."""

from __future__ import annotations

from knet_trio._logs.log import HandleLog
from knet_trio._logs.names import LogSubsystem
from knet_trio.config import CompressConfig, CryptoConfig


def log_slot(log: HandleLog, slot: int, config: CryptoConfig | None) -> None:
    """Log that a crypto slot was set or cleared."""
    if config is None:
        log.info(LogSubsystem.CRYPTO, "crypto slot %d is cleared", slot)
    else:
        log.info(
            LogSubsystem.CRYPTO,
            "crypto slot %d is set: cipher %s, hash %s, model %s",
            slot,
            config.cipher,
            config.hash,
            config.model,
        )


def log_sealing(log: HandleLog, slot: int) -> None:
    """Log which crypto slot is in use, 0 for none."""
    if slot:
        log.info(LogSubsystem.CRYPTO, "crypto slot %d is in use", slot)
    else:
        log.info(LogSubsystem.CRYPTO, "no crypto slot is in use: packets go in the clear")


def log_clear_traffic(log: HandleLog, allowed: bool) -> None:
    """Log whether clear packets are accepted."""
    log.info(LogSubsystem.CRYPTO, "clear packets are %s", "accepted" if allowed else "refused")


def log_compression(log: HandleLog, config: CompressConfig | None) -> None:
    """Log whether messages are compressed."""
    if config is None:
        log.info(LogSubsystem.COMPRESS, "messages are not compressed")
    else:
        log.info(
            LogSubsystem.COMPRESS,
            "messages are compressed: model %s, level %s",
            config.model,
            "default" if config.level is None else config.level,
        )


def log_forwarding(log: HandleLog, forwarding: bool) -> None:
    """Log whether data forwarding is on."""
    log.info(LogSubsystem.HANDLE, "data forwarding is %s", "on" if forwarding else "off")


def log_access_lists(log: HandleLog, enabled: bool) -> None:
    """Log whether access lists are in force."""
    log.info(LogSubsystem.HANDLE, "access lists are %s", "on" if enabled else "off")
