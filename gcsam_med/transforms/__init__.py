"""From stored images to what a network sees: letterbox, channels, scale, random transforms in training."""
