"""Data sets with labels, in their published layouts. Names from their files never lead out of the folder."""
