"""Figures of a study: pure functions from its tables to plotly figures."""
