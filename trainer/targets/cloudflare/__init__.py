"""Cloudflare Workers AI as a target."""
