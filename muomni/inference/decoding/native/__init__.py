"""C++ operators of decoding on a CPU, built by the machine's compiler on first use."""
