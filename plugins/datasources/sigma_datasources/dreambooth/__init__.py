"""A folder in DreamBooth's layout: the first picture of each subject is its reference, the others are targets."""
