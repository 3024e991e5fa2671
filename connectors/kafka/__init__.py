"""Kafka: clients, topics, offsets, bounded reads."""
