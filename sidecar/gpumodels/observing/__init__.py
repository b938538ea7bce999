"""Observes the host's calls, imports and modules without interfering. Which of torch's functions are observed is `hooks`' choice."""
