"""Reads what a module holds: its tensors, their storages, and their bytes on each device."""
