"""Serves releases through an Ollama server."""
