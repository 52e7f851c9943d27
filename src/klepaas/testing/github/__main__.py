"""The stand-in as a program: one line of JSON on stdout once it serves, and its end when its stdin ends.

Its parent holds the other end of stdin; however the parent ends, that pipe ends with it."""

import argparse
import contextlib
import json
import signal
import sys
from pathlib import Path

from klepaas.testing.github.server import StandInGitHub


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m klepaas.testing.github", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--folder", type=Path, help="where its repositories are; without it a temporary one")
    parser.add_argument("--webhooks", default="", help="the URL of the App's webhook")
    parser.add_argument("--stay", action="store_true", help="do not end with stdin, only by SIGTERM or Ctrl-C")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with StandInGitHub(port=chosen.port, folder=chosen.folder) as github:
        github.send_webhooks_to(chosen.webhooks)
        about = {
            "url": github.url,
            "api_url": github.api_url,
            "app_id": github.app.app_id,
            "slug": github.app.slug,
            "webhook_secret": github.app.webhook_secret,
            "private_key_pem": github.app.private_key_pem,
            "control": f"{github.url}/_control",
        }
        sys.stdout.write(json.dumps(about) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            github.wait() if chosen.stay else sys.stdin.buffer.read()


main()
