"""Number formats: what the layers compute in and how they multiply."""
