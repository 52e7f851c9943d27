"""For clients of the older service on Naver Cloud: its paths, its fields, its errors (`{"detail": …}`).

It can go when nothing asks for these paths any more; `klepaas_http_request_seconds` of `/metrics` tells. Its routes
work for projects of every target; what it says of builds and deployments at Naver Cloud is left out for those that are
not there."""

from klepaas.interfaces.api.compat.hybrid.provisioning import router as provisioning_router
from klepaas.interfaces.api.compat.hybrid.rollbacks import router as rollbacks_router

ROUTERS = (provisioning_router, rollbacks_router)
