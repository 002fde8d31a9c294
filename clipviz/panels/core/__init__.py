"""The common parts of all panels: base class, requests, scripts, saved pages."""
