"""Facts and uploads as messages of topics, and back."""
