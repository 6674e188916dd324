"""Tests of seekr_tune.study.directory."""
