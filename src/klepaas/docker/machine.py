"""What this machine is, as far as finding, installing and starting a Docker engine depends on it."""

import os
import platform
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where system programs live. A user's PATH often lacks the sbin folders, and dockerd needs them itself."""

_INSTALL = {
    "debian": "apt-get install -y docker.io",
    "ubuntu": "apt-get install -y docker.io",
    "fedora": "dnf install -y moby-engine && systemctl enable --now docker",
    "rhel": "dnf install -y podman && systemctl enable --now podman.socket",
    "arch": "pacman -S --noconfirm docker && systemctl enable --now docker",
    "suse": "zypper install -y docker && systemctl enable --now docker",
    "alpine": "apk add docker && rc-service docker start",
    "darwin": "brew install colima docker && colima start",
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """`families` are the names of the system and of those it is like, nearest first: `ubuntu`, `debian`."""

    root: bool
    user: str
    families: tuple[str, ...]
    systemd: bool
    dockerd: bool
    apt: bool

    @classmethod
    def this(cls) -> "Machine":
        darwin = platform.system() == "Darwin"
        return cls(
            root=os.geteuid() == 0,
            user=_user(),
            families=("darwin",) if darwin else _families(Path("/etc/os-release")),
            systemd=Path("/run/systemd/system").is_dir(),
            dockerd=shutil.which("dockerd", path=SYSTEM_PATH) is not None,
            apt=Path("/etc/debian_version").exists() and shutil.which("apt-get", path=SYSTEM_PATH) is not None,
        )

    def command_to_install(self) -> str:
        """The one command that brings an engine to this machine, as its user would type it. Empty when we know none."""
        for family in self.families:
            if family in _INSTALL:
                return self._typed(_INSTALL[family], sudo=family != "darwin")
        return ""

    def command_to_start(self) -> str:
        """The one command that starts the engine that is installed here."""
        if "darwin" in self.families:
            return "colima start"
        start = "systemctl enable --now docker" if self.systemd else "setsid --fork dockerd"
        return self._typed(start, sudo=True)

    def _typed(self, command: str, *, sudo: bool) -> str:
        if self.root or not sudo:
            return command
        return " && ".join(f"sudo {part}" for part in command.split(" && "))


def _families(os_release: Path) -> tuple[str, ...]:
    try:
        lines = os_release.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    values = {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)}
    return tuple(f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".split())


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
