"""Folders on a disk or on S3 behind one interface."""
