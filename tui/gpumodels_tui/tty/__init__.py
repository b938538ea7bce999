"""The terminal as the screens use it: as few bytes as possible to it, and whole keys and events from it."""
