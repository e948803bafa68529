"""A folder of photographs, one subject each, to be annotated."""
