"""What is mended in a recording at its own rate, before it is resampled: clicks and hum."""
