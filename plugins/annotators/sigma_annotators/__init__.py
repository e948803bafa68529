"""Stages of data making."""
