"""A control, a backbone, a data source and a sampler for sigma_framework."""
