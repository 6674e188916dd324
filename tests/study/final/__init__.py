"""Tests of seekr_tune.study.final."""
