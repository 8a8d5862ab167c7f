"""Which URLs and addresses are refused, and that a refusal tells nothing about the URL."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from handler.settings import IntakeSettings
from handler.transfer.addresses import (
    AddressRefused,
    allowed_addresses,
    check_url,
    check_written_address,
    is_public,
)

STRICT = IntakeSettings()
OWN_MACHINE = IntakeSettings(allow_http=True, allow_private_addresses=True, allowed_ports=())
NOT_PUBLIC_V4 = """
    127.0.0.1 127.8.8.8 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.100.100.200
    169.254.169.254 168.63.129.16 192.0.0.192 192.0.2.1 198.18.0.1 198.51.100.7 203.0.113.7 224.0.0.1
    255.255.255.255 240.0.0.1
"""
NOT_PUBLIC_V6 = """
    :: ::1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::7f00:1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1
    2001::1 2001:db8::1 2002:7f00:1:: 3fff::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%1 fec0::1 ff02::1
"""
OWN = "127.0.0.1 10.0.0.1 192.168.0.2 172.20.0.3 ::1 fd12::1"
METADATA = "169.254.169.254 fe80::1 fd00:ec2::254 100.100.100.200 0.0.0.0"
LOOPBACK = "2130706433 0x7f.1 127.1 017700000001"  # as a number, in hexadecimal, short, in octal


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_is_public_accepts_the_internet(address):
    """Addresses of the public internet are accepted, also behind a NAT64 prefix."""
    assert is_public(address)


@pytest.mark.parametrize("address", [*NOT_PUBLIC_V4.split(), *NOT_PUBLIC_V6.split(), "not an address", ""])
def test_is_public_refuses_everything_else(address):
    """Private, local, reserved and disguised addresses are refused."""
    assert not is_public(address)


@given(st.ip_addresses())
def test_is_public_never_exceeds_the_standard_library(address):
    """What the standard library calls private, loopback, link-local, multicast or reserved is refused."""
    if address.version == 6 and (address.ipv4_mapped or str(address).startswith("64:ff9b::")):
        return  # judged by the IPv4 address inside
    bad = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    if bad or address.is_reserved or address.is_unspecified:
        assert not is_public(str(address))


@pytest.mark.parametrize("address", [*OWN.split(), "8.8.8.8"])
def test_allowed_addresses_opens_ones_own_network_on_request(hosts, address):
    """With allow_private_addresses, loopback and private networks are reached beside the public ones."""
    hosts["h"] = [address]
    assert allowed_addresses("h", 80, OWN_MACHINE) == [address]


@pytest.mark.parametrize(
    ("addresses", "rules"),
    [
        *(([address], OWN_MACHINE) for address in METADATA.split()),
        *(([number], STRICT) for number in LOOPBACK.split()),
        (["8.8.8.8", "10.0.0.1"], STRICT),
    ],
)
def test_allowed_addresses_refuses(hosts, addresses, rules):
    """Metadata services stay shut even on one's own network; one bad address refuses the whole host."""
    hosts["h"] = addresses
    with pytest.raises(AddressRefused, match="not public"):
        allowed_addresses("h", 443, rules)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://bucket.example/v.mp4", "https://"),
        ("file:///etc/passwd", "https://"),
        ("ftp://h/v", "https://"),
        ("concat:a.mp4|b.mp4", "https://"),
        ("/local/file.mp4", "https://"),
        ("", "https://"),
        ("https://", "no host"),
        ("https:///v.mp4", "no host"),
        ("https://user:secret@h/v.mp4", "user name"),
        ("https://h\\@evil/v", "user name"),
        ("https://h:22/v.mp4", "port 22"),
        ("https://h:0/v.mp4", "port number"),
        ("https://h:70000/v.mp4", "port number"),
        ("https://h/" + "a" * 9000, "longer than"),
        ("https://h/\x00", "parsed"),
        ("https://[::1/v", "parsed"),
        ("https://" + "a" * 64 + ".example/v", "host name"),
        ("https://" + "a." * 127 + "example/v", "host name"),
        ("https://a..example/v", "host name"),
        ("https://.example/v", "host name"),
        ("https://ex%61mple.example/v", "host name"),
        ("https://a b/v", "host name"),
        ("https://\u00ad/v", "parsed"),
        ("https://h:²/v", "parsed"),
        ("https://h:" + "9" * 5000 + "/v", "parsed"),
    ],
)
def test_check_url_refuses(url, reason):
    """A URL of a wrong form is refused with its reason."""
    settings = STRICT.model_copy(update={"allowed_ports": ()}) if "number" in reason else STRICT
    with pytest.raises(AddressRefused, match=reason):
        check_url(url, settings)


def test_check_url_keeps_a_presigned_url_byte_for_byte():
    """Escapes in path and query stay as they were signed."""
    target = "/a%2Fb%20c+d/v%C3%A9.mp4?X-Amz-Credential=AK%2F2026&X-Amz-Signature=ab&x=%7E~!*'()"
    assert check_url(" https://b.s3.example" + target + "\n", STRICT).raw_path == target.encode()


def test_check_url_honours_the_host_list():
    """With allowed_hosts, the listed hosts and their subdomains pass and nothing that merely looks alike."""
    settings = IntakeSettings(allowed_hosts=("example.com",))
    for host in ("example.com", "a.b.example.com", "EXAMPLE.com."):
        check_url(f"https://{host}/v", settings)
    for host in ("badexample.com", "example.com.evil.net"):
        with pytest.raises(AddressRefused, match="list"):
            check_url(f"https://{host}/v", settings)


@pytest.mark.parametrize(
    ("host", "ascii_host"),
    [
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        ("my_bucket.s3.example.", "my_bucket.s3.example."),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--i-7iq.ws", "xn--i-7iq.ws"),  # an emoji, which only older rules translate
        ("xn--0.example", "xn--0.example"),
        ("8.8.8.8", "8.8.8.8"),
        ("[2606:4700::1111]", "2606:4700::1111"),
    ],
)
def test_check_url_accepts_what_can_be_looked_up(host, ascii_host):
    """Host names of every kind that a resolver takes, with and without a list of hosts."""
    for settings in (STRICT, IntakeSettings(allowed_hosts=("*", "no..name", "ü\u00ad.", host.strip("[]")))):
        assert check_url(f"https://{host}/v", settings).raw_host == ascii_host.encode()


def test_written_addresses_are_seen_without_a_look_up():
    """What is plain in the URL can be refused at once; a name is looked up when connecting."""
    for host in ("10.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[fe80::1]"):
        with pytest.raises(AddressRefused, match="not public"):
            check_written_address(check_url(f"https://{host}/", STRICT), STRICT)
    for host in ("8.8.8.8", "localhost"):
        check_written_address(check_url(f"https://{host}/", STRICT), STRICT)


@given(st.text(max_size=60))
def test_check_url_answers_garbage_with_a_refusal(text):
    """Any text gives a URL or AddressRefused, never another exception."""
    for url in (text, "https://" + text):
        with contextlib.suppress(AddressRefused):
            check_url(url, STRICT)


HOSTS = st.text(st.sampled_from("ab1.-_%é ßxn\u0130\u200d:[]@²٣\\/?#"), max_size=12) | st.text(max_size=8)
PORTS = st.sampled_from(["", ":", ":0", ":80", ":99999", ":²", ":٣", ":-1", ":+80", ":8_0", ":" + "9" * 5000])


@hypothesis_settings(max_examples=200, deadline=None)
@given(host=HOSTS, port=PORTS, path=st.text(max_size=12))
def test_any_url_is_refused_or_can_be_looked_up(host, port, path):
    """What passes has a host that the system can encode and an address that a request can name."""
    try:
        url = check_url(f"https://{host}{port}/{path}", IntakeSettings(allowed_ports=()))
    except AddressRefused:
        return
    url.raw_host.decode("ascii").encode("idna")
    assert url.raw_path.isascii()
    assert not {b" ", b"\r", b"\n"} & {bytes([byte]) for byte in url.raw_path}
