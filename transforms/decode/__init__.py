"""Bytes of messages to uploads: STS JSON, Avro, CSA text."""
