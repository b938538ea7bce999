"""Foundations that know nothing of models: failures, locks, weak references, time slices, CPU budget, torch's private names."""
