"""`gpumodels comfyui`: puts a node pack into a ComfyUI that starts the sidecar with it, and says into which Python it belongs."""
