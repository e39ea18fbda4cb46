"""Other ways to pretrain the same backbone on the same views, for comparison."""
