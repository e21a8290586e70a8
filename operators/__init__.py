"""The Kubernetes operator's package. It never imports torch (enforced by import-linter)."""
