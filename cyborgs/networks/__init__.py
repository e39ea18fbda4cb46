"""Backbone, layer fusion, and the heads of the mask loss."""
