"""Writes what is generated of the charts: schema, README, values files, manifests."""
