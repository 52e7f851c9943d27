"""Taking down what a klepaas runs on this machine, named before it goes. Apart from the wiring: who serves needs none
of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from klepaas.settings import Settings
from klepaas.targets.protocol import Found
from klepaas.wiring import Parts, assembled


@dataclass(frozen=True, kw_only=True)
class Going:
    """What goes, or has gone, besides the proxy, as people call it."""

    containers: Sequence[str]
    images: Sequence[str] = ()


async def look(settings: Settings, *, images: bool) -> Going:
    """What `take_down` would take away now. Errors: as there."""
    async with assembled(settings, alone=True) as parts:
        containers = [await _name(parts, found) for found in await parts.target.everything()]
        return Going(containers=containers, images=[*(await _all_images(parts)).values()] if images else ())


async def take_down(settings: Settings, *, images: bool, say: Callable[[str], None]) -> Going:
    """Remove every container of this klepaas from the engine, the proxy included; its images too when told so. Its
    records stay. Errors: Conflict while klepaas runs in this home, EngineUnavailable."""
    async with assembled(settings, alone=True) as parts:
        containers, gone = [], []
        for found in await parts.target.everything():
            containers.append(await _name(parts, found))
            await parts.target.discard(found)
            say(f"Removed {containers[-1]}.")
        await parts.target.remove_proxy()
        say("Removed the proxy.")
        if images:
            names = await _all_images(parts)
            for state in await parts.context.apps.all():
                gone += [
                    names.get(digest, digest) for digest in await parts.context.builder.collect(state.app, keep=())
                ]
            if gone:
                say(f"Removed {len(gone)} images.")
        return Going(containers=containers, images=gone)


async def _name(parts: Parts, found: Found) -> str:
    release = await parts.context.releases.get(found.release_id)
    which = f"release #{release.number} of {release.commit_sha[:7]}" if release else found.release_id
    return f"{found.app}, {which} ({found.state})"


async def _all_images(parts: Parts) -> Mapping[str, str]:
    """Digest → name, of every image that the builder of this machine would delete."""
    return {
        digest: name
        for state in await parts.context.apps.all()
        for digest, name in (await parts.context.builder.collectable(state.app)).items()
    }
