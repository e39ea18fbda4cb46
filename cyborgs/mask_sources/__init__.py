"""Regions that do not come from the encoder (Fig. 5a): made once, before pretraining."""
