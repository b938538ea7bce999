"""What the sidecar and the viewer share: the schema, its encoding, the mapped file and its directories, units and safe text."""
