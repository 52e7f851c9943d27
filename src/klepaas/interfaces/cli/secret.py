"""A secret from the person at the terminal or from a pipe; never from the command line, which others can read."""

import getpass
import sys


def read(prompt: str) -> str:
    """The secret from stdin without its last line end, or asked for without an echo."""
    if sys.stdin.isatty():
        return getpass.getpass(prompt, stream=sys.stderr)
    text = sys.stdin.read()
    return text[:-1].removesuffix("\r") if text.endswith("\n") else text
