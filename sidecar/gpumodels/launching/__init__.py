"""Brings the sidecar into processes without touching their code: any command, an environment for good, a running process."""
