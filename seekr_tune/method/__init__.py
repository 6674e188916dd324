"""SEEKR itself: tensors in, tensors out."""
