"""How a URL may be shown."""

from __future__ import annotations


def redact(url: str) -> str:
    """A URL without what may be secret: user and password, query and fragment.

    The query goes too, since that is where signed URLs carry their signature.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.endswith("file"):
        return url
    host = rest.replace("?", "/").replace("#", "/").partition("/")[0]
    _, colon, port = host.partition(":")
    end = host.rfind("@")
    if end < 0 and colon and not port.isdigit() and not host.startswith("["):
        # A password with one of / ? # in it makes no good URL, and is still a password.
        end = rest.rfind("@")
    if end >= 0:
        rest = "***" + rest[end:]
    for mark in "?#":
        head, cut, _secret = rest.partition(mark)
        rest = head + (f"{cut}***" if cut else "")
    return f"{scheme}://{rest}"
