"""What cells gave: records, sample cards, published numbers and the environment."""
