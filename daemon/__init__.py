"""The service: settings, wiring, the loop, the HTTP edge and the command line. Loads no torch."""
