"""klepaas takes a repository to a running, health-checked service and tells the truth about it."""

__version__ = "0.1.0"
