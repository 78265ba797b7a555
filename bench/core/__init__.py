"""What every package uses: settings, files, strict YAML and JSON, redaction and seeds."""
