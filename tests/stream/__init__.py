"""Tests of `seekr_tune.stream`."""
