"""Tests of seekr_tune.study.search."""
