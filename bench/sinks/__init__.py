"""Each store against its peers: what a sink writes, beside a plain client and the store itself."""
