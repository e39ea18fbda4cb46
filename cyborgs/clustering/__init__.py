"""Spherical k-means and the masks made with it (section 3.3)."""
