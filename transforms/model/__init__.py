"""What stages share: messages, uploads, dead letters, flags, thresholds, Arrow helpers."""
