"""Encode: facts and uploads as messages of topics; and vehicle minutes read back."""
