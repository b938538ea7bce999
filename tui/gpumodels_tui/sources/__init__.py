"""Where the viewer's facts come from: snapshot files, NVML, and the question whether either can be had."""
