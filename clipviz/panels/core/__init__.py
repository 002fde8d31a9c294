"""What every panel is made of: base, requests, scripts, saved pages."""
