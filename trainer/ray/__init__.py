"""The same train loop under Ray Train, which places and watches the workers; read `trainer.ray.driver` first."""
