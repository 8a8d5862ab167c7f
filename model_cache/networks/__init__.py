"""Our own torch modules for HMR2 and PHALP, one idea a file."""
