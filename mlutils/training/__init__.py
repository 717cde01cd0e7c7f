"""Trains what the paper compares with: reference rows and probes (scikit-learn), encoders, finetuned and
small models.
"""
