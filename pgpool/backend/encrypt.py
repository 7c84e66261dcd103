"""TLS to a backend: SSLRequest, its answer, the handshake (behaviour.md 9.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system import sockets, tls
from ..system.channel import Channel, ChannelError
from ..wire.startup import ssl_request

if TYPE_CHECKING:
    from ..config.settings import BackendConf, Settings


def encrypt(channel: Channel, backend: BackendConf, settings: Settings) -> None:
    """Before anything else is sent: go over to TLS as far as the settings want it. A unix socket stays plain.

    Raises ChannelError: no TLS where it must be, bytes in front of the handshake, a certificate that is not good.
    """
    if backend.hostname == "" or backend.hostname.startswith("/"):
        return
    rules = tls.backend_tls(settings, backend)
    if rules.problem:
        raise ChannelError(rules.problem)
    if rules.context is None:
        return
    channel.send(ssl_request())
    answer = channel.read_byte()
    if channel.pending:
        raise ChannelError("received unencrypted data after SSL response")
    if answer == b"S":
        host = backend.hostname
        channel.secure(
            rules.context, host=host if rules.check_host else "", sni="" if sockets.is_address(host) else host
        )
    elif answer == b"N":
        if not rules.may_be_plain:
            raise ChannelError("server does not support SSL, but SSL was required")
    elif answer == b"E":
        # what stands in it was not said under TLS by anybody we know: it is not repeated (CVE-2024-10977)
        raise ChannelError("server sent an error response during SSL exchange")
    else:
        raise ChannelError(f"received invalid response to SSL negotiation: {answer[0]}")
