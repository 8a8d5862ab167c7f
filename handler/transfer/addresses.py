"""Which URLs and which network addresses this worker may talk to.

A URL in a job is written by a stranger. Without these checks it could point the worker at its own
network: the cloud's metadata service, a database, another container.
"""

import ipaddress
import re
import socket

import httpx2

from handler.settings import IntakeSettings
from handler.transfer.errors import Problem, TransferError

MAX_URL_LENGTH = 8192
DEFAULT_PORTS = {"https": 443, "http": 80}
# Labels of 1 to 63 characters, at most 253 in all: what the domain name system can look up.
_HOST_NAME = re.compile(r"(?=.{1,254}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")

# Written out because `ipaddress.is_global` has changed between Python patch releases.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; some clouds' metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's host agent on a public-looking address
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocols; one cloud's metadata
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved and broadcast
        "2001::/23",  # IETF protocols, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
    )
]
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")  # the only block given out for global unicast
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # the last 32 bits are the IPv4 address really reached

# What `allow_private_addresses` opens: one's own machine and network, never metadata services.
_OWN_NETWORKS = [
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
]
_METADATA_V6 = ipaddress.IPv6Address("fd00:ec2::254")


class AddressRefused(TransferError):
    """A URL or an address is not allowed; the message may be shown and holds no part of the URL."""

    def __init__(self, reason: str, problem: Problem = Problem.ADDRESS_REFUSED) -> None:
        super().__init__(problem, reason)


def check_url(url: str, rules: IntakeSettings) -> httpx2.URL:
    """The parsed URL, if its form is allowed; where its host leads is checked when connecting.

    Raises:
        AddressRefused: also if its port or host is not on the operator's list.
    """
    url = url.strip()  # copied links often end with a line break
    if len(url) > MAX_URL_LENGTH:
        raise AddressRefused(f"the URL is longer than {MAX_URL_LENGTH} characters")
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        # `from None`: the parser's message quotes the URL.
        raise AddressRefused("the URL cannot be parsed") from None
    schemes = ("https", "http") if rules.allow_http else ("https",)
    if parsed.scheme not in schemes:
        raise AddressRefused(
            f"the URL must start with {' or '.join(f'{s}://' for s in schemes)}", Problem.NOT_HTTPS
        )
    host = parsed.raw_host.decode("ascii")  # not `.host`, which fails on names that it cannot translate back
    if not host:
        raise AddressRefused("the URL has no host")
    if parsed.userinfo and not rules.trusts_urls:
        raise AddressRefused("the URL must not hold a user name or password")
    port = DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port
    if not 0 < port < 65536:
        raise AddressRefused("the URL's port is not a port number")
    if rules.allowed_ports and port not in rules.allowed_ports:
        raise AddressRefused(f"port {port} is not allowed")
    if rules.allowed_hosts and not any(_is_within(host, name) for name in rules.allowed_hosts):
        raise AddressRefused("the URL's host is not on this worker's list")
    if not (_HOST_NAME.fullmatch(host) or _is_address(host)):
        raise AddressRefused("the URL's host is not a host name")
    return parsed


def check_written_address(url: httpx2.URL, rules: IntakeSettings) -> None:
    """Refuse a URL that says itself, without a look-up, that it leads to an address that is not allowed.

    Raises:
        AddressRefused: its host is such an address.
    """
    host = url.raw_host.decode("ascii")
    if _is_address(host):
        _refuse_address(host, rules)


def _is_within(host: str, name: str) -> bool:
    """Whether a host is the named one or below it; a name that no URL can hold matches none."""
    try:
        name = httpx2.URL(scheme="https", host=name.strip(".")).raw_host.decode("ascii")
    except httpx2.InvalidURL:
        return False
    host = host.rstrip(".")
    return host == name or host.endswith("." + name)


def allowed_addresses(host: str, port: int, rules: IntakeSettings) -> list[str]:
    """The addresses to connect to. One address that is not allowed refuses the host as a whole.

    Raises:
        AddressRefused: an address is not allowed.
        OSError: the name cannot be resolved.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not rules.trusts_urls:
        for address in addresses:
            _refuse_address(address, rules)
    return addresses


def _refuse_address(address: str, rules: IntakeSettings) -> None:
    ip = _delivered_to(address)
    is_own = ip is not None and ip != _METADATA_V6 and any(ip in network for network in _OWN_NETWORKS)
    if not (is_public(address) or (rules.allow_private_addresses and is_own)):
        raise AddressRefused("the URL leads to an address that is not public")


def is_public(address: str) -> bool:
    """Whether this is an IP address of the public internet."""
    ip = _delivered_to(address)
    if ip is None or (ip.version == 6 and ip not in _PUBLIC_V6):
        return False
    return not any(ip in network for network in _NOT_PUBLIC)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host  # a zone of the machine that wrote it


def _delivered_to(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address the network would deliver to: an IPv4 one inside an IPv6 one is taken out."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip
