"""One step of warm-up and of training, and all state that it moves."""
