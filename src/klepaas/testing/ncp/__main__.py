"""The stand-in as a program: one line of JSON on stdout once it serves, and its end when its stdin ends.

Its parent holds the other end of stdin; however the parent ends, that pipe ends with it."""

import argparse
import contextlib
import json
import signal
import sys
from pathlib import Path

from klepaas.testing.ncp.server import StandInNcp


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m klepaas.testing.ncp", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="the first of eight in a row; 0: free ones")
    parser.add_argument("--folder", type=Path, help="where it keeps what it has; without it a temporary one")
    parser.add_argument("--docker-host", help="unix:///… of the engine that builds; without it builds are pretended")
    parser.add_argument("--registry", choices=("auto", "program", "own"), default="auto")
    parser.add_argument("--build-time-ms", type=int, default=3000)
    parser.add_argument("--deploy-time-ms", type=int, default=3000)
    parser.add_argument("--stay", action="store_true", help="do not end with stdin, only by SIGTERM or Ctrl-C")
    chosen = vars(parser.parse_args())
    stay = chosen.pop("stay")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with StandInNcp(**chosen) as ncp:
        about = {
            "environment": ncp.endpoints,
            "control": f"{ncp.url('sourcecommit')}/_control",
            "has_registry_program": ncp.has_registry_program,
            "kubeconfig": ncp.kubeconfig,
        }
        sys.stdout.write(json.dumps(about) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            ncp.wait() if stay else sys.stdin.buffer.read()


main()
