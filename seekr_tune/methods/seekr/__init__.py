"""SEEKR: which heads matter, and how their attention is kept."""
