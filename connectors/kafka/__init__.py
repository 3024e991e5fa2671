"""Kafka: clients, the topics, lag, bounded reads."""
