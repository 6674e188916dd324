"""Tests of `seekr_tune.data`."""
