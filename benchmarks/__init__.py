"""What this costs, and against what. Each file is a module to run from the root: `python -m benchmarks.quick`."""
