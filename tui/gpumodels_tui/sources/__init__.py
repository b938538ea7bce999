"""Where the viewer's data come from: the sidecars' snapshot files, NVML, and the directories chosen at startup."""
