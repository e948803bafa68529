"""The measures of the field: encoders of transformers look at the image; weights by hub id or folder."""
