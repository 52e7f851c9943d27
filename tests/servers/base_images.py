"""Base images for builds in tests, made of this machine's own programs: no registry is asked.

    STATIC   busybox with all its commands, 2 MB
    PYTHON   the same, the Python that runs the tests, and pip: a stand-in for `python:3-slim`

Made once per engine and kept there under these names for the next test run. Not to be published: they hold copies of
this machine's files."""

import contextlib
import fcntl
import hashlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

STATIC = "klepaas-test/static:host"
PYTHON = "klepaas-test/python:host"

_LABEL = "klepaas-test.recipe"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_LEFT_OUT = re.compile(
    r"(?:^|/)(?:test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|site-packages|dist-packages)$|/config-3[^/]*$"
    r"|EXTERNALLY-MANAGED$|\.opt-[12]\.pyc$"
)


def static_base(host: str) -> str:
    """Have STATIC on this engine (`unix:///…`) and return its name. Skips the test where busybox is not static."""
    return _have(host, STATIC, _static_files, ["CMD /bin/sh"])


def python_base(host: str) -> str:
    """Have PYTHON on this engine and return its name: `python`, `python3` and `pip` are on PATH."""
    variables = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        **dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), _CERTIFICATES),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    changes = [*(f"ENV {name}={value}" for name, value in variables.items()), "CMD python3"]
    return _have(host, PYTHON, _python_files, changes)


def _have(host: str, name: str, files: Callable[[tarfile.TarFile], None], changes: list[str]) -> str:
    recipe = hashlib.sha256(f"{Path(__file__).read_text()} {sys.version} {sys.base_prefix}".encode()).hexdigest()[:16]
    transport = httpx.HTTPTransport(uds=host.removeprefix("unix://"))
    with httpx.Client(transport=transport, base_url="http://docker", timeout=180) as engine, _alone(host):
        found = engine.get(f"/images/{name}/json")
        old = found.json() if found.is_success else {}
        if ((old.get("Config") or {}).get("Labels") or {}).get(_LABEL) == recipe:
            return name
        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
                files(tar)
            archive.seek(0)
            repository, tag = name.split(":")
            params = httpx.QueryParams(
                {"fromSrc": "-", "repo": repository, "tag": tag, "changes": [*changes, f"LABEL {_LABEL}={recipe}"]}
            )
            answer = engine.post("/images/create", params=params, content=iter(lambda: archive.read(2**20), b""))
        assert answer.is_success, answer.text
        assert '"error' not in answer.text, answer.text
        if old:
            engine.delete(f"/images/{old['Id']}")  # Refused while something is built on it: fine.
    return name


@contextlib.contextmanager
def _alone(host: str) -> Iterator[None]:
    """Keep other test processes from making the same image meanwhile."""
    key = hashlib.sha256(host.encode()).hexdigest()[:12]
    with open(Path(tempfile.gettempdir(), f"klepaas-test-images-{key}.lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _static_files(tar: tarfile.TarFile) -> None:
    busybox = shutil.which("busybox") or ""
    if not busybox or _dynamic(busybox):
        pytest.skip("base images need a static busybox: apt-get install busybox-static")
    for folder in ("bin", "etc", "etc/ssl", "etc/ssl/certs", "home", "proc", "root", "sys", "usr", "usr/bin", "var"):
        _folder(tar, folder)
    _folder(tar, "tmp", mode=0o1777)
    tar.add(os.path.realpath(busybox), "bin/busybox", filter=_owned_by_root)
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for command in listed:
        if command != "busybox":
            _link(tar, f"bin/{command}", "busybox")
    _link(tar, "usr/bin/env", "/bin/busybox")
    _text(tar, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    _text(tar, "etc/group", "root:x:0:\nnogroup:x:65534:\n")
    _text(tar, "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    if os.path.exists(_CERTIFICATES):
        tar.add(os.path.realpath(_CERTIFICATES), _CERTIFICATES[1:], filter=_owned_by_root)


def _python_files(tar: tarfile.TarFile) -> None:
    _static_files(tar)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    # Debian's own Python knows only its own place; any other finds its library beside itself.
    prefix = "usr" if sys.base_prefix == "/usr" else "usr/local"
    program = Path(sys.base_prefix, "bin", version)
    library = Path(sysconfig.get_path("stdlib"))
    for folder in ("usr/local", "usr/local/bin", "usr/local/lib"):
        _folder(tar, folder)
    tar.add(os.path.realpath(program), f"{prefix}/bin/{version}", filter=_owned_by_root)
    for alias in ("python3", "python"):
        _link(tar, f"{prefix}/bin/{alias}", version)
    tar.add(library, f"{prefix}/lib/{version}", filter=_of_python)
    _libraries(tar, [program, *library.glob("lib-dynload/*.so")])
    _pip(tar, prefix, f"{prefix}/lib/{'python3/dist-packages' if prefix == 'usr' else f'{version}/site-packages'}")


def _libraries(tar: tarfile.TarFile, programs: list[Path]) -> None:
    """What these programs are linked with, found where the loader of the image looks for it."""
    # ldd ends with 1 when one of many is not dynamic; what it says about the others is right.
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    found = set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", said, re.MULTILINE))
    libc = next((Path(path).parent for path in found if Path(path).name == "libc.so.6"), None)
    found |= {str(path) for path in (libc.glob("libnss_*.so.2") if libc else ())}  # Loaded by name, to resolve hosts.
    for path in sorted(found):
        ours = path.startswith(f"{sys.base_prefix}/lib/") and sys.base_prefix != "/usr"
        # musl and glibc both look in /usr/local/lib or /lib; the loader itself has one place only.
        name = f"usr/lib/{Path(path).name}" if ours else path[1:]
        tar.add(os.path.realpath(path), name, filter=_owned_by_root)


def _pip(tar: tarfile.TarFile, prefix: str, packages: str) -> None:
    ensurepip = importlib.util.find_spec("ensurepip")
    bundled = [Path(str(ensurepip.origin)).parent / "_bundled"] if ensurepip else []
    wheels = [wheel for folder in (*bundled, Path("/usr/share/python-wheels")) for wheel in folder.glob("pip-*.whl")]
    if not wheels:
        pytest.skip("the Python image needs pip's wheel: apt-get install python3-venv")
    with zipfile.ZipFile(wheels[0]) as wheel:
        for name in wheel.namelist():
            if not name.endswith("/"):
                _bytes(tar, f"{packages}/{name}", wheel.read(name))
    start = f'#!/bin/sh\nexec /{prefix}/bin/python3 -m pip "$@"\n'
    _bytes(tar, "usr/local/bin/pip", start.encode(), mode=0o755)


def _dynamic(program: str) -> bool:
    with open(program, "rb") as file:
        return b"/ld-" in file.read(4096)  # The loader's path stands near the beginning of a dynamic program.


def _of_python(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if _LEFT_OUT.search(entry.name) else _owned_by_root(entry)


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode |= 0o755 if entry.isdir() else 0o444
    return entry


def _folder(tar: tarfile.TarFile, name: str, mode: int = 0o755) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _link(tar: tarfile.TarFile, name: str, to: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, to, 0o777
    tar.addfile(entry)


def _text(tar: tarfile.TarFile, name: str, text: str) -> None:
    _bytes(tar, name, text.encode())


def _bytes(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))
