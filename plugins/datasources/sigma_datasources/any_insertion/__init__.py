"""AnyInsertion: one subject per example, with a reference picture and masks."""
