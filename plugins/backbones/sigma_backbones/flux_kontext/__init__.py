"""FLUX.1 Kontext as a backbone, at full scale or as ``pocket``."""
