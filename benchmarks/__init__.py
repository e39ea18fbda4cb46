"""How near the pipeline is to what the machine can do: `make bench` (docs/performance.md)."""
