"""How calls and imports of the host are seen without standing in their way. Knows no torch."""
