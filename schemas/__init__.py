"""WHAT is exchanged between the parts: settings, plan, manifests, requests. No torch, no prefect."""
