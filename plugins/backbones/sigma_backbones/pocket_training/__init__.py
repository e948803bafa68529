"""How ``pocket`` was made: its architecture, its tokenizers and the two objectives that train it."""
