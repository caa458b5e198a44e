"""Plugins that stay up: see docs/supervision.md, and policy.py for what decides."""
