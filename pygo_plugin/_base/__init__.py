"""What hosts and plugins share, whatever the protocol: the core, options, threads, exit."""
