"""How one model spreads over ranks: mesh, FSDP2, precision, compile."""
