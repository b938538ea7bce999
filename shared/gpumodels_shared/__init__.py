"""What the sidecar and the viewer speak: the schema, the wire codec, the mapped file, places, units and safe text."""
