"""Two documents of `--json` compared: what came, went, changed its size or moved between them. Knows no Textual."""
