"""FLUX.2 klein base 4B as a backbone: Apache-2.0, for users whom FLUX.1 Kontext's licence keeps out."""
