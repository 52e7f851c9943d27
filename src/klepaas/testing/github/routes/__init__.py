"""The REST API, one module per noun."""

from klepaas.testing.github.routes import (
    app,
    commits,
    deployments,
    hooks,
    issues,
    manifest,
    pulls,
    refs,
    releases,
    repositories,
    statuses,
)
from klepaas.testing.github.routing import Routes

ROUTES = Routes(
    [
        *app.ROUTES,
        *manifest.ROUTES,
        *hooks.ROUTES,
        # Before `commits`, whose paths end in anything.
        *statuses.ROUTES,
        *pulls.ROUTES,
        *commits.ROUTES,
        *refs.ROUTES,
        *deployments.ROUTES,
        *issues.ROUTES,
        *releases.ROUTES,
        *repositories.ROUTES,
    ]
)
