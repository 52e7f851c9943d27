"""Naver Cloud: SourceCommit, SourceBuild, SourceDeploy, SourcePipeline, its registry and its Kubernetes service.

Nothing here is imported before a project of this target, or `doctor`, needs it."""
