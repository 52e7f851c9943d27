"""Whom klepaas believes over TLS: the certificate authorities of this machine, read once."""

import ssl
from functools import cache

import httpx


@cache
def authorities() -> ssl.SSLContext:
    """For every client that speaks to the Internet. Reading them takes tens of milliseconds, in which nothing else of
    the process runs, and each copy takes its memory."""
    return httpx.create_ssl_context()
