"""Timing, accuracy and complexity of exported artefacts. Needs the extra ``bench``."""
