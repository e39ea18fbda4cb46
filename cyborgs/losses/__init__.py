"""The two losses: mask contrast (2) and vMF clustering consistency (3), (4)."""
