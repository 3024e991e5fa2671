"""Decode: bytes of messages (STS JSON, Avro, CSA text) to uploads or refusals."""
