"""THE METHOD: plain arguments and tensors; nothing here knows of runs, storage or Prefect."""
