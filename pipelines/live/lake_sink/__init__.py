"""The live job that writes the lake block by block and hour by hour."""
