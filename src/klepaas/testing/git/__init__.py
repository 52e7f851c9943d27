"""Bare repositories of the stand-ins, and git over HTTP in front of them."""
