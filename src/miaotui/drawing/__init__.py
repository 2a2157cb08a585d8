"""Pictures and pages that need nothing from elsewhere: no scripts, no fonts, all text escaped."""
