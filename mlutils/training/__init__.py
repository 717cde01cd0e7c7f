"""Trains what the paper compares with: reference rows, probes, encoders, finetuned and small models."""
