"""Shipped surveys: each codebook beside the data it describes."""
