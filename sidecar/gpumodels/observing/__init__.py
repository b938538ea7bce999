"""Observes the host's calls, imports and modules without interfering with them; `hooks` chooses which calls of torch."""
