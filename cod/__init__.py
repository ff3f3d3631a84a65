"""Computing on demand: claims on slots for interactive applications."""
