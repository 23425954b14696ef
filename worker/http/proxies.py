"""The proxy of a company's network, as the environment names it: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY."""

from __future__ import annotations

import base64
import os
from contextlib import suppress
from ipaddress import ip_address, ip_network
from urllib.request import getproxies, proxy_bypass

import httpx

from consent.errors import ConfigurationError
from worker.providers.endpoint import is_loopback

PORTS = {"http": 80, "https": 443}


def proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy that calls to an address go through, None if they go there directly.

    A proxy must not see calls to this machine. Raises ConfigurationError if the proxy cannot be used.
    """
    named = getproxies()
    address = named.get(url.scheme) or named.get("all")
    exceptions = named.get("no")
    if not address or is_loopback(url):
        return None
    if proxy_bypass(url.host) if exceptions is None else is_excepted(url, exceptions):
        return None
    try:
        proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
    except (httpx.InvalidURL, ValueError) as error:
        raise _useless(url) from error
    if proxy.url.scheme not in PORTS or not proxy.url.host:
        raise _useless(url)
    return proxy


def authorization(proxy: httpx.Proxy) -> list[tuple[bytes, bytes]]:
    """Return the header by which a proxy knows us, if its address holds a user name and a password."""
    if proxy.raw_auth is None:
        return []
    return [(b"Proxy-Authorization", b"Basic " + base64.b64encode(b":".join(proxy.raw_auth)))]


def is_excepted(url: httpx.URL, no_proxy: str) -> bool:
    """Say whether NO_PROXY lists a URL's host.

    Its entries are a host, a domain (with or without a dot or a star before it, its hosts are meant as well), an IP
    address or a network such as 10.0.0.0/8, each with a port if only that one is meant; `*` means all.
    """
    host, port = url.host.lower().rstrip("."), url.port or PORTS[url.scheme]
    return any(_covers(entry, host, port) for entry in no_proxy.lower().replace(",", " ").split())


def _covers(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    with suppress(ValueError):
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdecimal():
        return int(wanted) == port and _covers(name, host, port)
    domain = entry.removeprefix("*").strip(".[]")
    return bool(domain) and (host == domain or (host.endswith(f".{domain}") and not host[-1].isdigit()))


def _useless(url: httpx.URL) -> ConfigurationError:
    """Say which variable is wrong, and no part of it: it may hold a password."""
    names = [f"{url.scheme}_proxy", "all_proxy"]
    spelled = [variable for name in names for variable in (name, name.upper()) if os.environ.get(variable)]
    where = spelled[0] if spelled else "the proxy of this machine's settings"
    return ConfigurationError(f"{where} is no proxy that can be used: write http://host:port (SOCKS is not supported)")
