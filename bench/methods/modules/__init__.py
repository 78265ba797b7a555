"""What methods attach to a stack: prompt encoders, edits and adapters. They need torch; a method's settings do not."""
