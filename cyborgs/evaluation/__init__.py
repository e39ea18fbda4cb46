"""What can be measured without labels."""
