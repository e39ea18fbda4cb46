"""Metrics shown while a run goes on. A file for each tracker, imported where a run's settings name it."""
