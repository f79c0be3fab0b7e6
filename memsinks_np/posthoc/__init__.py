"""Removal after training: which neurons (localisation), which update (unlearning)."""
