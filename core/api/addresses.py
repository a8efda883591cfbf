"""Tell from which address a request comes: the peer's, unless a trusted proxy names another."""

import ipaddress
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest

HOPS_MAX = 20
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(request: HttpRequest) -> str:
    """Return the caller's address: the nearest of X-Forwarded-For that is no trusted proxy.

    Without TRUSTED_PROXIES the header is not read: any client can write it.
    """
    peer = str(request.META.get("REMOTE_ADDR", ""))
    trusted = _networks(tuple(settings.TRUSTED_PROXIES))
    if not trusted:
        return peer
    named = str(request.META.get("HTTP_X_FORWARDED_FOR", "")).split(",")[-HOPS_MAX:]
    nearest = peer
    for hop in reversed([*named, peer]):
        address = _parsed(hop)
        if address is None:
            break
        nearest = str(address)
        if not any(address in network for network in trusted):
            break
    return nearest


def limited_by(address: str) -> str:
    """Return what rate limits count as one caller: an IPv4 address, or an IPv6 /64."""
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


def _parsed(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)
