"""The archive: exact bytes of device topics by arrival. Names of objects, reading, writing."""
