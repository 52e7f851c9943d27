"""The manifest of an app that has none: a Deployment, a Service, and an Ingress for its host names."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the manifest is to say. All but `image` and `replicas` are only for one that is made anew."""

    app: str
    """Name and label, as `names.app_name` makes it."""
    image: str
    """By tag, by digest, or both: `host/name:tag@sha256:…`."""
    replicas: int | None
    """None: those that the file has."""
    port: int = 8080
    health_path: str | None = None
    """Answers 2xx or 3xx when the app is ready. None: ready is who takes a connection."""
    hosts: tuple[str, ...] = ()
    has_tls: bool = True
    ingress_class: str | None = None
    """None: the cluster's default."""
    pull_secret: str = "ncp-cr"
    """Of the type dockerconfigjson, in the namespace of the app."""


def made(wanted: Wanted) -> str:
    """Its documents in one file: the scenario applies one."""
    parts = [_deployment(wanted), _service(wanted)]
    if wanted.hosts:
        parts.append(_ingress(wanted))
    return "---\n".join(parts)


def _deployment(wanted: Wanted) -> str:
    replicas = 1 if wanted.replicas is None else wanted.replicas
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {wanted.app}
  labels:
    app: {wanted.app}
spec:
  replicas: {replicas}
  selector:
    matchLabels:
      app: {wanted.app}
  template:
    metadata:
      labels:
        app: {wanted.app}
    spec:
      imagePullSecrets:
      - name: {wanted.pull_secret}
      containers:
      - name: {wanted.app}
        image: {wanted.image}
        ports:
        - containerPort: {wanted.port}
        env:
        - name: PORT
          value: "{wanted.port}"
        readinessProbe:
{_probe(wanted)}
          periodSeconds: 5
          timeoutSeconds: 5
        resources:
          requests:
            memory: "128Mi"
            cpu: "100m"
          limits:
            memory: "256Mi"
            cpu: "200m"
"""


def _probe(wanted: Wanted) -> str:
    if wanted.health_path is None:
        return f"          tcpSocket:\n            port: {wanted.port}"
    return f"          httpGet:\n            path: {json.dumps(wanted.health_path)}\n            port: {wanted.port}"


def _service(wanted: Wanted) -> str:
    return f"""\
apiVersion: v1
kind: Service
metadata:
  name: {wanted.app}
  labels:
    app: {wanted.app}
spec:
  selector:
    app: {wanted.app}
  ports:
  - name: http
    port: 80
    targetPort: {wanted.port}
"""


def _ingress(wanted: Wanted) -> str:
    chosen = f"  ingressClassName: {wanted.ingress_class}\n" if wanted.ingress_class else ""
    names = "".join(f"    - {host}\n" for host in wanted.hosts)
    tls = f"  tls:\n  - hosts:\n{names}    secretName: {wanted.app}-tls\n" if wanted.has_tls else ""
    rules = "".join(
        f"""\
  - host: {host}
    http:
      paths:
      - path: /
        pathType: Prefix
        backend:
          service:
            name: {wanted.app}
            port:
              name: http
"""
        for host in wanted.hosts
    )
    return f"""\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {wanted.app}
  labels:
    app: {wanted.app}
spec:
{chosen}{tls}  rules:
{rules}"""
