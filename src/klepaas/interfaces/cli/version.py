"""`klepaas version`: of this program."""

from klepaas.interfaces.cli.options import Json, Quiet
from klepaas.interfaces.cli.screen import Screen


def version(as_json: Json = False, quiet: Quiet = False) -> None:
    """Show the version of this program."""
    import platform
    from importlib.metadata import version as version_of

    screen = Screen(as_json=as_json, quiet=quiet)
    number = version_of("klepaas")
    screen.json({"version": number, "python": platform.python_version()})
    screen.line(f"klepaas {number} (Python {platform.python_version()})")
