"""What the kit's work costs beside the bare model: `python -m benchmarks`."""
