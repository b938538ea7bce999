"""The files by which metrics and recordings are run and shown: for Prometheus, Grafana, systemd, Kubernetes, Slurm and others."""
