"""A Docker engine for the tests: the machine's when it has one, else one that lives as long as the test run."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from tests.servers.short_lived import short_lived_folder

STARTS_WITHIN_S = 60
"""dockerd is up in about 1 s; the rest is patience with a busy machine."""

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""dockerd looks for iptables and runc on PATH; a user's PATH often lacks these."""


class DockerDaemon:
    """A private dockerd with its own data, socket and containerd namespace.

    With `isolated` it also has a network namespace of its own (named `netns`, with only a loopback device): two
    engines in one namespace would fight over the bridge and the firewall's chains. Its published ports answer
    inside that namespace only: `nsenter --net=/var/run/netns/NAME …`."""

    def __init__(self, *, isolated: bool = True) -> None:
        self.folder = short_lived_folder("klepaas-docker-")
        self.socket = self.folder / "docker.sock"
        self.host = f"unix://{self.socket}"
        self.netns = f"klepaas-{secrets.token_hex(4)}" if isolated else ""
        self.containerd_namespace = (
            f"klepaas-{secrets.token_hex(4)}"  # the folder's name may hold "_-", which is refused
        )
        self.log = self.folder / "log"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of dockerd itself."""
        assert self._child is not None, "not started"
        return self._child.pid

    def start(self) -> None:
        """Have the engine answering. After `kill` it starts again with the same data."""
        self.make_namespace()
        (self.folder / "pid").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command(),
                env=_daemon_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops us in order
            )
        self._wait_until_it_answers()

    def make_namespace(self) -> None:
        """Have the network namespace, without an engine in it. Idempotent."""
        if self.netns and not Path("/var/run/netns", self.netns).exists():
            _ip("netns", "add", self.netns)
            _ip("-n", self.netns, "link", "set", "lo", "up")

    def kill(self) -> None:
        """End dockerd and its containerd as a power cut would; containers' own processes may live on."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
        self._end_containerd()

    def lose_power(self) -> None:
        """End the engine, and every process of its containers with it. `start` is the machine's next boot."""
        self.kill()
        self._end_containers()

    def stop(self) -> None:
        """Remove every container, end the engine, and leave nothing of it on the machine."""
        with contextlib.suppress(httpx.HTTPError):
            if self._child is not None and self._child.poll() is None:
                remove_everything(self.host, label="")
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self._end_containerd()
        self._end_containers()
        self._unmount()
        if self.netns:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", self.netns)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self) -> list[str]:
        # nsenter rather than `ip netns exec`, which hides the cgroup mounts.
        inside = ["nsenter", f"--net=/var/run/netns/{self.netns}", "--"] if self.netns else []
        return [
            *("setpriv", "--pdeathsig", "TERM", "--"),
            *inside,
            *("dockerd", "--host", self.host, "--pidfile", str(self.folder / "pid")),
            *("--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec")),
            *("--containerd-namespace", self.containerd_namespace),
            *("--containerd-plugins-namespace", f"{self.containerd_namespace}-plugins"),
            *("--mtu", str(_uplink_mtu())),
        ]

    def _wait_until_it_answers(self) -> None:
        assert self._child is not None
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline:
            if answers(self.host):
                return
            if self._child.poll() is not None:
                raise RuntimeError(f"dockerd ended with {self._child.returncode}: {self._last_words()}")
            time.sleep(0.05)
        raise RuntimeError(f"dockerd does not answer after {STARTS_WITHIN_S} s: {self._last_words()}")

    def _end_containerd(self) -> None:
        # The next dockerd would wait for a containerd whose process id still answers, be it only as a zombie.
        pidfile = self.folder / "exec" / "containerd" / "containerd.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            os.kill(int(pidfile.read_text()), signal.SIGKILL)
        pidfile.unlink(missing_ok=True)

    def _end_containers(self) -> None:
        """End what outlived a killed daemon: each container's shim, which names our namespace, and its children."""
        shims = set()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                if b"-namespace" in arguments and self.containerd_namespace.encode() in arguments:
                    shims.add(int(entry.name))
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in shims:
                    os.kill(int(entry.name), signal.SIGKILL)
        for shim in shims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(shim, signal.SIGKILL)

    def _unmount(self) -> None:
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


def usable_engine() -> str:
    """The engine this machine already has, `unix:///…`; empty when none answers."""
    for host in (os.environ.get("DOCKER_HOST", ""), "unix:///var/run/docker.sock"):
        if host.startswith("unix://") and answers(host):
            return host
    return ""


def answers(host: str) -> bool:
    try:
        with _client(host) as engine:
            return engine.get("/_ping").is_success
    except httpx.HTTPError:
        return False


def remove_everything(host: str, *, label: str) -> None:
    """Remove containers, images, networks and volumes with this label (all of them when it is empty)."""
    filters = f"&filters={quote(json.dumps({'label': [label]}))}" if label else ""
    with _client(host) as engine:
        for container in engine.get(f"/containers/json?all=1{filters}").json():
            engine.delete(f"/containers/{container['Id']}?force=1&v=1")
        for image in engine.get(f"/images/json?all=0{filters}").json():
            engine.delete(f"/images/{image['Id']}?force=1")
        if label:
            for network in engine.get(f"/networks?{filters}").json():
                engine.delete(f"/networks/{network['Id']}")
            for volume in engine.get(f"/volumes?{filters}").json()["Volumes"] or ():
                engine.delete(f"/volumes/{volume['Name']}?force=1")


def containers(host: str, *, label: str) -> list[dict[str, Any]]:
    """Containers with this label, in any state, as the engine lists them."""
    with _client(host) as engine:
        filters = quote(json.dumps({"label": [label]}))
        found: list[dict[str, Any]] = engine.get(f"/containers/json?all=1&filters={filters}").json()
    return found


def images(host: str, *, label: str) -> list[dict[str, str]]:
    """Images with this label, as the engine lists them."""
    with _client(host) as engine:
        found: list[dict[str, str]] = engine.get(f"/images/json?filters={quote(json.dumps({'label': [label]}))}").json()
    return found


def remove_unused(host: str, image: str) -> None:
    """Remove an image that no container uses; leave it otherwise."""
    with _client(host) as engine:
        engine.delete(f"/images/{image}")


def _client(host: str) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=host.removeprefix("unix://"), verify=False)
    return httpx.Client(transport=transport, base_url="http://docker", timeout=60, trust_env=False)


def _daemon_environment() -> dict[str, str]:
    # BuildKit clips a step's log at 1 MiB and 100 KiB/s unless its daemon is told otherwise.
    return {
        **os.environ,
        "PATH": f"{os.environ.get('PATH', '')}:{SBIN}",
        "BUILDKIT_STEP_LOG_MAX_SIZE": "10485760",
        "BUILDKIT_STEP_LOG_MAX_SPEED": "10485760",
    }


def _uplink_mtu() -> int:
    """The default route's MTU in bytes: a larger one on the bridge makes connections from builds stall."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        device, destination = line.split()[:2]
        if destination == "00000000":
            return int(Path("/sys/class/net", device, "mtu").read_text())
    return 1500


def _ip(*arguments: str) -> None:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SBIN}"}
    subprocess.run(["ip", *arguments], env=environment, check=True, capture_output=True)
