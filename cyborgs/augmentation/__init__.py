"""Two augmented views of a photograph, each from a random stream of its own."""
