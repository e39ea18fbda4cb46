"""WHERE things are kept: the run's layout, commit, leases, mask stores, photographs, checkpoints."""
