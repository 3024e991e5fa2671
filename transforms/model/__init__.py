"""What all stages share: messages, uploads, dead letters, flags, thresholds, Arrow helpers."""
