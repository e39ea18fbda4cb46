"""WHEN: the alternation as a short list of verbs, preparing a run, launching stages by name. No torch here."""
