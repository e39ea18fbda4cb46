"""The report of a run: what it holds as plain values, a page that shows them, and the same page served live."""
