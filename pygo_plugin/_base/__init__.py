"""What hosts and plugins share, whatever the protocol: checked options, threads, the exit."""
