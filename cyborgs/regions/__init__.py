"""Regions of a crop: its label grid, the sampled ids, pooling (1), and which cells name the same place."""
