"""Chooses which calls of torch and other libraries are observed: modules made, files read, weights loaded and moved.

A hook only reports to the registry and the provenance; it decides nothing.
"""
