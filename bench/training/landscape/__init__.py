"""Loss surfaces around a trained cell."""
